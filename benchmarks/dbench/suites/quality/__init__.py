"""How real are the samples? Fréchet distance of their raw 8x8 pixels to real digits, on a scale from real to noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core import machine, subject, timing
from dbench.core.record import Result, Row, spread_row, this_command
from dbench.core.timing import Spread
from dbench.quality.frechet import frechet_distance
from dbench.quality.neighbours import share_nearer_than_real
from dbench.suites.quality.rows import HALVES, NEARER, NOISE, POSITION, SAMPLES, SUITE
from dbench.suites.quality.section import section
from drun.console import Report
from drun.errors import ConfigError, DataError, door
from drun.foreign import read_json, read_npz

SEED = 0
SIDE = 8

__all__ = ["Settings", "measure", "section"]

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    samples: Path                # a folder that `drun` wrote, or its samples.npz
    reference: str = "digits"
    splits: int = 20             # random halvings of the real images


def measure(settings: Settings, report: Report) -> Result:
    """Compare samples, real halves and noise with the real images.

    Raises:
        ConfigError: an unknown reference. DataError: no samples, or of a size that does not fit.
    """
    if settings.reference != "digits":
        raise ConfigError(f"--reference got '{settings.reference}', expected digits")
    file = samples_file(settings.samples)
    images = read_samples(file)
    samples = pixels_8x8(images)
    from dtrain.data.digits import digits_8x8

    real = digits_8x8().reshape(-1, SIDE * SIDE)
    noise = np.random.default_rng(SEED).integers(0, 256, images.shape, np.uint8)
    report("comparing", 0, settings.splits)
    halves = halves_distance(real, settings.splits)
    report("comparing", settings.splits, settings.splits)
    rows = _rows(frechet_distance(samples, real), halves, frechet_distance(pixels_8x8(noise), real))
    nearer = 100 * share_nearer_than_real(samples, real)
    run = _run(file)
    measured = subject.of_samples(file, run) | {
        "num_samples": len(samples), "num_real": len(real), "run": run.get("settings", {}),
    }  # fmt: skip
    resolved = {"samples": settings.samples.name, "reference": settings.reference, "splits": settings.splits}
    rows.append(Row(SUITE, NEARER, nearer, "%"))
    return Result(tuple(rows), measured, resolved, machine.fingerprint(), this_command())


def _rows(samples: float, halves: Spread, noise: float) -> list[Row]:
    unit = "squared pixel values"
    position = 100 * (samples - halves.median) / (noise - halves.median)
    return [
        Row(SUITE, SAMPLES, samples, unit),
        spread_row(SUITE, HALVES, halves, unit),
        Row(SUITE, NOISE, noise, unit),
        Row(SUITE, POSITION, position, "%", headline="of the way from real digits to noise, by Fréchet distance"),
    ]


def halves_distance(real: Features, splits: int) -> Spread:
    """Fréchet distances between random halves of the real images: what two sets of real images differ by."""
    generator, half = np.random.default_rng(SEED), len(real) // 2
    distances = []
    for _ in range(splits):
        order = generator.permutation(len(real))
        distances.append(frechet_distance(real[order[:half]], real[order[half:]]))
    return timing.spread(distances)


def pixels_8x8(images: NDArray[np.uint8]) -> Features:
    """(N, H, W, C) uint8 -> (N, 64) float64 in [0, 1]: the channels' and each box's mean.

    Raises:
        DataError: sides that are no multiple of 8.
    """
    num, height, width, channels = images.shape
    if height != width or height % SIDE:
        raise DataError(f"the samples are {height}x{width} pixels, expected squares of 8x8, 16x16 or a multiple")
    box = height // SIDE
    boxes = images.reshape(num, SIDE, box, SIDE, box * channels)
    means: Features = boxes.mean(axis=(2, 4), dtype=np.float64)
    return means.reshape(num, SIDE * SIDE) / 255


def samples_file(path: Path) -> Path:
    """The samples.npz of a folder that `drun` wrote, or the file itself. Raises DataError if there is none."""
    file = path / "samples.npz" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"no samples at '{file}': draw them with 'drun --bundle BUNDLE -n 512 --out DIR'")
    return file


def read_samples(file: Path) -> NDArray[np.uint8]:
    """The images of a samples.npz: (N, H, W, C) uint8.

    Raises:
        DataError: it holds something else.
    """
    with door(f"'{file}' is not a samples.npz of drun", advice="draw the samples again"):
        images: NDArray[np.uint8] = read_npz(file)["arr_0"]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"'{file}' holds {images.dtype} {images.shape}, expected uint8 (N, H, W, C)")
    return images


def _run(file: Path) -> dict[str, Any]:
    """How the samples were drawn, if run.json beside them says so."""
    path = file.with_name("run.json")
    return read_json(path) if path.is_file() else {}
