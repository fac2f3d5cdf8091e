"""A sampling run: many images, in batches, into a folder, resumable and shardable.

The folder is the run's state. A finished image is a file; a run, a resumed run and a shard all compute just the
images that are missing, and whoever finds all of them there writes `samples.npz`, `grid.png` and `raw.npz`.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from drun.console import Report, warn
from drun.diffusion.arrays import Array
from drun.errors import ConfigError, DataError, UserError, memory_for
from drun.files import write_json
from drun.foreign import read_json, read_npz
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

    The files depend on the bundle, the settings, the number of images and the batch alone: a smaller batch is filled
    up, and a damaged file is computed again.

    Args:
        record: what `run.json` says besides the settings.
        report: told the image-steps done, after every step of a batch.

    Returns:
        How many images were computed now.

    Raises:
        ConfigError: the folder holds images of other settings. UserError: it cannot be written. OutOfMemory.
    """
    output = replace(output, batch=min(output.batch, output.num_images))
    pixels = None
    if has_pixels(sampling.bundle):
        pixels = Pixels(sampling.bundle, sampling.settings.uint8, output.options, output.batch)
    else:
        output = replace(output, save_images=False, save_raw=True, trajectory=None)
    claim(sampling, output, record)
    todo = missing(output)
    _compute(sampling, output, todo, pixels, report)
    if lost := missing(replace(output, trajectory=None)):
        raise UserError(
            f"{len(lost)} images vanished from '{output.folder}' while the run wrote them: run the same command again"
        )
    if not missing(replace(output, shard=(0, 1), trajectory=None)):
        todo += _assemble(sampling, output, pixels, report)
    return len(todo)


def _compute(sampling: Sampling, output: Output, todo: list[int], pixels: Pixels | None, report: Report) -> None:
    num_rows = len(sampling.table.rows)
    for start in range(0, len(todo), output.batch):
        indices = todo[start : start + output.batch]
        animated = output.trajectory if indices[0] == output.shard[0] else None

        def on_row(row: int, done: int = start * num_rows, count: int = len(indices)) -> None:
            report("sampling", done + (row + 1) * count, len(todo) * num_rows)

        with memory_for("sampling", f"lower --batch, which is {output.batch}"):
            x = _draw(sampling, output, indices, animated, pixels, on_row)
            _save(output, indices, x, pixels)


def _assemble(sampling: Sampling, output: Output, pixels: Pixels | None, report: Report) -> list[int]:
    """Write the files of the whole run; which images were damaged and computed again for it."""
    try:
        assemble(sampling, output, pixels.shape if pixels else None)
    except Damaged as damaged:
        indices = damaged.indices
        warn(f"damaged files in '{output.folder}' are computed again: {', '.join(map(str, indices[:9]))}")
        _compute(sampling, replace(output, trajectory=None), indices, pixels, report)
        assemble(sampling, output, pixels.shape if pixels else None)
        return indices
    return []


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


class Damaged(UserError):
    """Files of finished samples that are broken, or of another shape than the run's."""

    def __init__(self, indices: list[int]) -> None:
        super().__init__(f"files of the samples {indices} stay damaged: is the disk in order?")
        self.indices = indices


def assemble(sampling: Sampling, output: Output, image_shape: tuple[int, int, int] | None) -> None:
    """Write `samples.npz` (the ADM evaluator's layout), `grid.png` and `raw.npz` from the finished samples.

    image_shape: (C, H, W) of the images; None if there are only states.

    Raises:
        Damaged: naming all samples whose file is broken, or of another shape or type.
    """
    folder, n = output.folder, output.num_images
    classes = sampling.labels(range(n))
    label_rows: dict[str, images.Rows] = {} if classes is None else {"labels": ((n,), np.int64, [classes])}
    if image_shape is not None:
        channels, height, width = image_shape
        shape = (height, width, channels)
        rows = _Rows(lambda i: images.read_png(images.image_path(folder, i)), n, shape, np.uint8)
        pixels: dict[str, images.Rows] = {"arr_0": ((n, *shape), np.uint8, rows)}
        if label_rows:
            pixels["arr_1"] = label_rows["labels"]
        images.write_npz(folder / "samples.npz", pixels)
        images.write_png(folder / "grid.png", images.grid(np.stack(list(islice(rows, GRID_IMAGES)))))
    if output.save_raw:
        shape, dtype = sampling.bundle.manifest.data.shape, np.dtype(sampling.settings.state_dtype)
        states = _Rows(lambda i: read_npz(_raw_path(folder, i))["x"], n, shape, dtype)
        raw: dict[str, images.Rows] = {"x": ((n, *shape), dtype, states)}
        images.write_npz(folder / "raw.npz", raw | label_rows)


@dataclass(frozen=True)
class _Rows:
    """The rows 0..count-1, each of one shape and type. At the end of a loop, Damaged names those that are not."""

    read: Callable[[int], NDArray[Any]]
    count: int
    shape: tuple[int, ...]
    dtype: DTypeLike

    def __iter__(self) -> Iterator[NDArray[Any]]:
        damaged = []
        for i in range(self.count):
            if (row := self._row(i)) is not None:
                yield row
            else:
                damaged.append(i)
        if damaged:
            raise Damaged(damaged)

    def _row(self, index: int) -> NDArray[Any] | None:
        try:
            row = self.read(index)
        except (DataError, KeyError):
            return None
        return row if row.shape == self.shape and row.dtype == self.dtype else None


def _draw(
    sampling: Sampling,
    output: Output,
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

        return sampling.draw(indices, on_step, output.batch)


def _save(output: Output, indices: Sequence[int], x: NDArray[Any], pixels: Pixels | None) -> None:
    if output.save_raw:
        for i, state in zip(indices, x, strict=True):
            images.write_npz(_raw_path(output.folder, i), {"x": (state.shape, state.dtype, [state])})
    if pixels is not None:
        for i, image in zip(indices, pixels(x), strict=True):
            images.write_png(images.image_path(output.folder, i), image)


def _raw_path(folder: Path, index: int) -> Path:
    return folder / "raw" / f"{index:06d}.npz"


def claim(sampling: Sampling, output: Output, record: dict[str, Any]) -> None:
    """Write `run.json`, or refuse a folder that holds images made otherwise, or nobody knows how.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    folder, path = output.folder, output.folder / "run.json"
    identity = json.loads(json.dumps(_identity(sampling, record)))  # as it is read back
    if path.exists():
        previous = read_json(path, ConfigError, "delete the folder, or choose another --out")
        held = previous.get("settings")
        held = held if isinstance(held, dict) else {}
        for key, value in identity.items():
            if key not in held or held[key] != value:
                raise ConfigError(
                    f"'{folder}' holds images made with {key} = {held.get(key)}, this run has {value}: "
                    "choose another --out, or delete the folder"
                )
        if (batch := previous.get("batch")) != output.batch:
            warn(
                f"'{folder}' holds images computed {batch} at a time, this run takes {output.batch}: they agree within "
                "the tolerance, not byte for byte"
            )
    elif found := _left_images(folder):
        raise ConfigError(
            f"'{folder}' holds '{found}', and no run.json says how it was made: choose another --out, or move it away"
        )
    write_json(
        path, {"settings": identity, "num_images": output.num_images, "batch": output.batch} | record | environment()
    )


def _identity(sampling: Sampling, record: dict[str, Any]) -> dict[str, Any]:
    """All that an image depends on, but for the libraries and the machine."""
    manifest = sampling.bundle.manifest
    source = [entry.sha256 for entry in sampling.artifact.files] if sampling.artifact else None
    decoder = [entry.sha256 for entry in manifest.decoder.artifacts[0].files] if manifest.decoder else None
    model = {key: getattr(manifest, key) for key in ("process", "prediction", "variance", "guidance")}
    classes = None if manifest.classes is None else asdict(manifest.classes)
    described = {"data": asdict(manifest.data), "classes": classes}
    return {
        "checkpoint_sha256": manifest.model.checkpoint["sha256"],
        "weights": manifest.model.checkpoint["weights"],
        "graph_sha256": source,
        "decoder_sha256": decoder,
        "backend": record["backend"],
        "precision": record["precision"],
    } | model | described | asdict(sampling.settings)  # fmt: skip


def _left_images(folder: Path) -> str | None:
    """A file that looks like one of a run's samples."""
    for place, suffix in ((folder, ".png"), (folder / "raw", ".npz")):
        if place.is_dir():
            for path in place.iterdir():
                if re.fullmatch(r"\d{6,}", path.stem) and path.suffix == suffix:
                    return path.name
    return None


def environment() -> dict[str, Any]:
    """The machine and library versions, for run.json."""
    return {
        "versions": {"dexport": version("dexport"), "numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
        "command": sys.argv,
    }
