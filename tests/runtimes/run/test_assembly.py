"""The files of a whole run; what is damaged among the finished samples is found and computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import ANCESTRAL, draw, load, results

from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.run import images

MakeBundle = Callable[..., Path]


def test_labels_of_a_conditional_model(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    draw(bundle, tmp_path / "out", replace(ANCESTRAL, labels="7,2"))
    samples = load(tmp_path / "out" / "samples.npz")
    assert samples["arr_1"].dtype == np.int64
    assert samples["arr_1"].tolist() == [7, 2, 7, 2, 7, 2, 7]
    means = samples["arr_0"].mean(axis=(1, 2, 3))
    assert means[samples["arr_1"] == 7].min() > means[samples["arr_1"] == 2].max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_raw_states(bundle: Bundle, tmp_path: Path, dtype: str) -> None:
    draw(bundle, tmp_path, replace(ANCESTRAL, state_dtype=dtype), save_raw=True)
    raw = load(tmp_path / "raw.npz")
    assert list(raw) == ["x"]
    assert (raw["x"].shape, raw["x"].dtype) == ((7, 3, 8, 8), dtype)
    np.testing.assert_array_equal(images.to_uint8(raw["x"]), load(tmp_path / "samples.npz")["arr_0"])


def test_a_grid_shows_at_most_64_images(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path, num_images=70, batch=70)
    assert images.read_png(tmp_path / "grid.png").shape == (8 * 66 + 2, 8 * 66 + 2, 3)
    assert load(tmp_path / "samples.npz")["arr_0"].shape[0] == 70


def test_a_damaged_image_is_computed_again(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut short, with a flipped bit, larger, or in colours of another kind: nothing of it reaches samples.npz."""
    folder = tmp_path / "whole"
    flipped = bytearray(whole["000002.png"])
    flipped[len(flipped) // 2] ^= 1
    for i, content in ((1, whole["000001.png"][:40]), (2, bytes(flipped)), (3, b"")):
        (folder / f"{i:06d}.png").write_bytes(content)
    images.write_png(folder / "000004.png", np.zeros((9, 8, 3), np.uint8))
    images.write_png(folder / "000005.png", np.zeros((8, 8, 1), np.uint8))
    assert draw(bundle, folder) == 5
    assert results(folder) == whole
    assert f"damaged files in '{folder}' are computed again: 1, 2, 3, 4, 5" in capsys.readouterr().err


def test_a_damaged_state_is_computed_again(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path, save_raw=True)
    before = results(tmp_path)
    flipped = bytearray((tmp_path / "raw" / "000002.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "raw" / "000002.npz").write_bytes(flipped)
    np.savez(tmp_path / "raw" / "000003.npz", x=np.zeros((3, 8, 9), np.float32))
    np.savez(tmp_path / "raw" / "000004.npz", y=np.zeros((3, 8, 8), np.float32))
    np.savez(tmp_path / "raw" / "000005.npz", x=np.zeros((3, 8, 8)))
    np.savez(tmp_path / "raw" / "000006.npz", x=np.full((3, 8, 8), np.nan, np.float32))
    (tmp_path / "raw.npz").unlink()
    assert draw(bundle, tmp_path, save_raw=True) == 5
    assert results(tmp_path) == before
