"""A sampling run: many images, in batches, into a folder, resumable and shardable.

The folder is the run's state. A finished image is a file; a run, a resumed run and a shard all compute just the
images that are missing, and whoever finds all of them there writes `samples.npz`, `grid.png` and `raw.npz`.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.console import Report
from drun.diffusion.arrays import Array
from drun.errors import ConfigError
from drun.files import atomic, write_json
from drun.foreign import read_json
from drun.run import images
from drun.run.decoder import Pixels, has_pixels
from drun.run.sampling import Sampling
from drun.run.trajectory import TrajectoryWriter

GRID_IMAGES = 64


@dataclass(frozen=True)
class Output:
    """What to compute and where to write it."""

    folder: Path
    num_images: int
    batch: int = 8
    shard: tuple[int, int] = (0, 1)
    save_raw: bool = False        # also keep the final float states
    save_images: bool = True
    trajectory: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of the decoder's runtime, as of a backend


def run(sampling: Sampling, output: Output, record: dict[str, Any], report: Report) -> int:
    """Compute the missing images of this shard, then assemble if all are there.

    Args:
        record: what `run.json` says besides the settings.
        report: told the image-steps done, after every step of a batch.

    Returns:
        How many images were computed now.

    Raises:
        ConfigError: the folder holds images of other settings. UserError: it cannot be written.
    """
    pixels = None
    if has_pixels(sampling.bundle):
        pixels = Pixels(sampling.bundle, sampling.settings.uint8, output.options)
    else:
        output = replace(output, save_images=False, save_raw=True, trajectory=None)
    _claim(output.folder, sampling, output, record)
    todo, num_rows = missing(output), len(sampling.table.rows)
    for start in range(0, len(todo), output.batch):
        indices = todo[start : start + output.batch]
        animated = output.trajectory if indices[0] == output.shard[0] else None

        def on_row(row: int, done: int = start * num_rows, count: int = len(indices)) -> None:
            report("sampling", done + (row + 1) * count, len(todo) * num_rows)

        x = _draw(sampling, indices, animated, pixels, on_row)
        _save(output, indices, x, pixels)
    if not missing(replace(output, shard=(0, 1), trajectory=None)):
        assemble(sampling, output, pixels.shape if pixels else None)
    return len(todo)


def missing(output: Output) -> list[int]:
    """The samples of this shard that the folder lacks, in order; a trajectory shows the whole first batch."""
    shard, num_shards = output.shard
    mine = range(shard, output.num_images, num_shards)
    todo = [i for i in mine if not all(path.is_file() for path in _paths(output, i))]
    if output.trajectory and (not output.trajectory.exists() or todo[:1] == [shard]):
        first = list(mine)[: output.batch]
        todo = first + [i for i in todo if i not in first]
    return todo


def _paths(output: Output, index: int) -> list[Path]:
    """The files of a finished sample."""
    image = [images.image_path(output.folder, index)] if output.save_images else []
    return image + ([_raw_path(output.folder, index)] if output.save_raw else [])


def assemble(sampling: Sampling, output: Output, image_shape: tuple[int, int, int] | None) -> None:
    """Write `samples.npz` (the ADM evaluator's layout), `grid.png` and `raw.npz` from the finished samples.

    image_shape: (C, H, W) of the images; None if there are only states.
    """
    folder, n = output.folder, output.num_images
    classes = sampling.labels(range(n))
    label_rows: dict[str, images.Rows] = {} if classes is None else {"labels": ((n,), np.int64, [classes])}
    if image_shape is not None:
        channels, height, width = image_shape
        pixels: dict[str, images.Rows] = {
            "arr_0": ((n, height, width, channels), np.uint8, images.read_all(folder, n))
        }
        if label_rows:
            pixels["arr_1"] = label_rows["labels"]
        images.write_npz(folder / "samples.npz", pixels)
        sheet = images.grid(np.stack(list(images.read_all(folder, min(n, GRID_IMAGES)))))
        images.write_png(folder / "grid.png", sheet)
    if output.save_raw:
        rows = (np.load(_raw_path(folder, i)) for i in range(n))
        states = ((n, *sampling.bundle.manifest.data.shape), sampling.settings.state_dtype, rows)
        raw: dict[str, images.Rows] = {"x": states}
        images.write_npz(folder / "raw.npz", raw | label_rows)


def _draw(
    sampling: Sampling,
    indices: Sequence[int],
    animated: Path | None,
    pixels: Pixels | None,
    on_row: Callable[[int], None],
) -> NDArray[Any]:
    rows = len(sampling.table.rows)
    with TrajectoryWriter(animated, rows, pixels) if animated and pixels else nullcontext() as writer:

        def on_step(row: int, x: Array) -> None:
            if writer is not None:
                writer.add(row, x)
            if row >= 0:
                on_row(row)

        return sampling.draw(indices, on_step)


def _save(output: Output, indices: Sequence[int], x: NDArray[Any], pixels: Pixels | None) -> None:
    if output.save_raw:
        for i, state in zip(indices, x, strict=True):
            with atomic(_raw_path(output.folder, i)) as temporary, temporary.open("wb") as file:
                np.save(file, state)
    if pixels is not None:
        for i, image in zip(indices, pixels(x), strict=True):
            images.write_png(images.image_path(output.folder, i), image)


def _raw_path(folder: Path, index: int) -> Path:
    return folder / "raw" / f"{index:06d}.npy"


def _claim(folder: Path, sampling: Sampling, output: Output, record: dict[str, Any]) -> None:
    """Write `run.json`, or refuse a folder that holds images made otherwise."""
    identity = {
        "checkpoint_sha256": sampling.bundle.manifest.model.checkpoint["sha256"],
        "backend": record["backend"],
        "precision": record["precision"],
    } | asdict(sampling.settings)
    path = folder / "run.json"
    if path.is_file():
        previous = read_json(path).get("settings", {})
        differing = [key for key, value in identity.items() if previous.get(key) != _plain(value)]
        if differing:
            key = differing[0]
            raise ConfigError(
                f"'{folder}' holds images made with {key} = {previous.get(key)}, this run has {identity[key]}: "
                "choose another --out, or delete the folder"
            )
    write_json(path, {"settings": identity, "num_images": output.num_images} | record | environment())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def environment() -> dict[str, Any]:
    """The machine and library versions, for run.json."""
    return {
        "versions": {"dexport": version("dexport"), "numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
        "command": sys.argv,
    }
