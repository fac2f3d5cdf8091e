"""A finished sample has the files that the run keeps, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from drun.run.output import Output


@pytest.mark.parametrize(
    ("save_images", "save_raw", "expected"),
    [
        (True, False, ["out/000012.png"]),
        (True, True, ["out/000012.png", "out/raw/000012.npz"]),
        (False, True, ["out/raw/000012.npz"]),
    ],
)
def test_the_files_of_a_sample(save_images: bool, save_raw: bool, expected: list[str]) -> None:
    output = Output(Path("out"), 20, save_images=save_images, save_raw=save_raw)
    assert [path.as_posix() for path in output.paths(12)] == expected
