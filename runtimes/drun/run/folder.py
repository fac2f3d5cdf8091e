"""A sampling run: many images, in batches, into a folder, resumable and shardable.

The folder is the run's state. A finished image is a file; a run, a resumed run and a shard all compute just the
images that are missing, and whoever finds all of them there writes `samples.npz`, `grid.png` and `raw.npz`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from drun.console import Report, warn
from drun.diffusion.arrays import Array
from drun.errors import UserError, memory_for
from drun.run import images
from drun.run.assembly import Damaged, assemble
from drun.run.decoder import Pixels, has_pixels
from drun.run.output import Output, raw_path
from drun.run.record import claim, is_animated, note_animation
from drun.run.sampling import Sampling
from drun.run.trajectory import TrajectoryWriter


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
    claim(sampling, output, record, computes=bool(missing(output)))
    if is_animated(output):
        output = replace(output, trajectory=None)
    todo = missing(output)
    _compute(sampling, output, todo, pixels, report)
    if lost := missing(replace(output, trajectory=None)):
        raise UserError(
            f"{len(lost)} images vanished from '{output.folder}' while the run wrote them: run the same command again"
        )
    if not missing(replace(output, shard=(0, 1), trajectory=None)):
        todo += _assemble(sampling, output, record, pixels, report)
    return len(todo)


def _compute(sampling: Sampling, output: Output, todo: list[int], pixels: Pixels | None, report: Report) -> None:
    num_rows = len(sampling.table.rows)
    for start in range(0, len(todo), output.batch):
        indices = todo[start : start + output.batch]
        animated = output.trajectory if indices[0] == output.shard[0] else None

        def on_row(row: int, done: int = start * num_rows, count: int = len(indices)) -> None:
            report("sampling, steps of all images", done + (row + 1) * count, len(todo) * num_rows)

        with memory_for("sampling", f"lower --batch, which is {output.batch}"):
            x = _draw(sampling, output, indices, animated, pixels, on_row)
            _save(output, indices, x, pixels)
        if animated:
            note_animation(output)


def _assemble(
    sampling: Sampling, output: Output, record: dict[str, Any], pixels: Pixels | None, report: Report
) -> list[int]:
    """Write the files of the whole run; which images were damaged and computed again for it."""
    try:
        assemble(sampling, output, pixels.shape if pixels else None)
    except Damaged as damaged:
        indices = damaged.indices
        warn(f"damaged files in '{output.folder}' are computed again: {', '.join(map(str, indices[:9]))}")
        claim(sampling, output, record)
        _compute(sampling, replace(output, trajectory=None), indices, pixels, report)
        assemble(sampling, output, pixels.shape if pixels else None)
        return indices
    return []


def missing(output: Output) -> list[int]:
    """The samples of this shard that the folder lacks, in order; a trajectory shows the whole first batch."""
    shard, num_shards = output.shard
    mine = range(shard, output.num_images, num_shards)
    todo = [i for i in mine if not all(path.is_file() for path in output.paths(i))]
    if output.trajectory:
        first = list(mine)[: output.batch]
        todo = first + [i for i in todo if i not in first]
    return todo


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
            images.write_npz(raw_path(output.folder, i), {"x": (state.shape, state.dtype, [state])})
    if pixels is not None:
        for i, image in zip(indices, pixels(x), strict=True):
            images.write_png(images.image_path(output.folder, i), image)
