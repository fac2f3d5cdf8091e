"""Noise files: read as they are, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drun.errors import ConfigError, DataError
from drun.run.noise_file import FileNoise, noise_digest


def open_noise(path: Path, num_images: int, shape: tuple[int, ...], num_noises: int) -> FileNoise:
    return FileNoise(path, noise_digest(path), num_images, shape, num_noises)


def write_noise(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((5, 1, 2, 2)), "z": rng.standard_normal((3, 5, 1, 2, 2))}


def test_a_noise_file_gives_x_and_then_every_z(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    noise = open_noise(write_noise(tmp_path / "n.npz", **arrays), 5, (1, 2, 2), 3)
    source = noise.batch([4, 1])
    expected = [arrays["x"], *arrays["z"]]
    for draw in expected:
        got = source()
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, draw[[4, 1]].astype(np.float32))


def test_z_is_not_needed_by_a_deterministic_sampler(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    noise = open_noise(write_noise(tmp_path / "n.npz", x=arrays["x"]), 5, (1, 2, 2), 0)
    np.testing.assert_array_equal(noise.batch([2])(), arrays["x"][[2]].astype(np.float32))


@pytest.mark.parametrize(
    ("present", "num_images", "num_noises", "message"),
    [
        ("xz", 6, 3, r"array 'x' has shape \(5, 1, 2, 2\), expected \(6, 1, 2, 2\)"),
        ("xz", 5, 4, r"array 'z' has shape \(3, 5, 1, 2, 2\), expected \(4, 5, 1, 2, 2\)"),
        ("x", 5, 3, r"array 'z' has shape none, expected \(3, 5, 1, 2, 2\)"),
        ("z", 5, 3, r"array 'x' has shape none, expected \(5, 1, 2, 2\)"),
    ],
)
def test_wrong_shapes_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], present: str, num_images: int, num_noises: int, message: str
) -> None:
    path = write_noise(tmp_path / "n.npz", **{name: arrays[name] for name in present})
    with pytest.raises(ConfigError, match=message):
        open_noise(path, num_images, (1, 2, 2), num_noises)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.npz").write_text("hello")
    with pytest.raises(DataError, match=r"cannot read the arrays of '.*n.npz': File is not a zip file"):
        open_noise(tmp_path / "n.npz", 1, (1, 2, 2), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j])
def test_only_finite_real_numbers_are_noise(tmp_path: Path, arrays: dict[str, np.ndarray], value: complex) -> None:
    path = write_noise(tmp_path / "n.npz", x=arrays["x"] * value)
    with pytest.raises(ConfigError, match="array 'x' holds numbers that are not finite and real"):
        open_noise(path, 5, (1, 2, 2), 0)


def test_a_file_that_changed_since_it_was_hashed_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    digest = noise_digest(write_noise(tmp_path / "n.npz", x=arrays["x"]))
    write_noise(tmp_path / "n.npz", x=arrays["x"] + 1)
    with pytest.raises(ConfigError, match="was changed while it was opened"):
        FileNoise(tmp_path / "n.npz", digest, 5, (1, 2, 2), 0)


def test_a_noise_file_that_is_not_there(tmp_path: Path) -> None:
    assert noise_digest(None) is None
    with pytest.raises(ConfigError, match=r"no such noise file: '.*noise.npz'"):
        noise_digest(tmp_path / "noise.npz")
