"""A sampling run draws many images in batches into a folder. It can be resumed and sharded.

The folder is the run's state, and a finished image is a file. A run, a resumed run and a shard compute only the
images that are missing, and the process that finds all of them writes `samples.npz`, `grid.png` and `raw.npz`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drun.console import Report, warn
from drun.diffusion.arrays import State
from drun.diffusion.loop import Observer
from drun.errors import UserError, memory_for
from drun.run import images
from drun.run.assembly import Damaged, assemble
from drun.run.beside import Beside
from drun.run.decoder import Pixels, has_pixels
from drun.run.images import UInt8
from drun.run.output import Output, raw_path
from drun.run.record import claim, is_animated, note_animation
from drun.run.sampling import Sampling
from drun.run.session import Session
from drun.run.trajectory import TrajectoryWriter


def run(session: Session, sampling: Sampling, output: Output, report: Report) -> int:
    """Compute the missing images of this shard, then assemble if all are there.

    The files depend on the bundle, the settings, the number of images and the batch alone: a smaller batch is filled
    up, and a damaged file is computed again.

    Args:
        session: the session that `sampling` came from.
        report: called after every step of a batch with the number of image-steps done.

    Returns:
        How many images were computed now.

    Raises:
        ConfigError: the folder holds images of other settings. UserError: it cannot be written. OutOfMemory.
    """
    batch = min(output.batch, output.num_images, session.opened.largest_batch(sampling.table))
    output = replace(output, batch=batch)
    pixels = session.pixels() if has_pixels(session.bundle) else None
    if pixels is None:
        output = replace(output, save_images=False, save_raw=True, trajectory=None)
    if is_animated(output):
        output = replace(output, trajectory=None)
    todo = missing(output)
    claim(session, sampling, output, computes=bool(todo))
    drawing = _Drawing(sampling, output, pixels, report)
    drawing.compute(todo)
    if lost := missing(replace(output, trajectory=None)):
        raise UserError(
            f"{len(lost)} images vanished from '{output.folder}' while the run wrote them: run the same command again"
        )
    if not missing(replace(output, shard=(0, 1), trajectory=None)):
        todo += _assemble(session, drawing)
    return len(todo)


def _assemble(session: Session, drawing: _Drawing) -> list[int]:
    """Write the files of the whole run. Returns the images that were damaged and computed again."""
    sampling, output, pixels = drawing.sampling, drawing.output, drawing.pixels
    try:
        assemble(sampling, output, pixels.shape if pixels else None)
    except Damaged as damaged:
        indices = damaged.indices
        warn(f"damaged files in '{output.folder}' are computed again: {', '.join(map(str, indices[:9]))}")
        claim(session, sampling, output)
        replace(drawing, output=replace(output, trajectory=None)).compute(indices)
        assemble(sampling, output, pixels.shape if pixels else None)
        return indices
    return []


def missing(output: Output) -> list[int]:
    """The samples of this shard that the folder lacks, in order.

    For a trajectory the whole first batch is drawn again.
    """
    shard, num_shards = output.shard
    mine = range(shard, output.num_images, num_shards)
    todo = [i for i in mine if not all(path.is_file() for path in output.paths(i))]
    if output.trajectory:
        first = list(mine)[: output.batch]
        todo = first + [i for i in todo if i not in first]
    return todo


@dataclass(frozen=True)
class _Drawing:
    """Draws batches of samples from their noise, and writes their files."""

    sampling: Sampling
    output: Output
    pixels: Pixels | None
    report: Report

    def compute(self, todo: list[int]) -> None:
        """Draw the samples `todo`; the files of a batch are written while the next one is drawn.

        Whatever stops the drawing, the batches that were drawn are written.
        """
        num_rows, batch = len(self.sampling.table.rows), self.output.batch
        with memory_for("sampling", f"lower --batch, which is {batch}"), Beside() as beside:
            for start in range(0, len(todo), batch):
                indices = todo[start : start + batch]
                is_first = indices[0] == self.output.shard[0]

                def progress(rows_done: int, done: int = start * num_rows, count: int = len(indices)) -> None:
                    beside.check()
                    self.report("sampling, steps of all images", done + rows_done * count, len(todo) * num_rows)

                x = self._draw(indices, self.output.trajectory if is_first else None, progress)
                beside.do(self._save, indices, x)

    def _draw(self, indices: Sequence[int], animated: Path | None, progress: Callable[[int], None]) -> State:
        if animated is None or self.pixels is None:
            return self.sampling.draw(indices, Observer(progress), self.output.batch)
        with TrajectoryWriter(animated, len(self.sampling.table.rows), self._to_uint8) as writer:
            observer = Observer(progress, writer.shown, writer.add)
            x = self.sampling.draw(indices, observer, self.output.batch)
        note_animation(self.output)
        return x

    def _save(self, indices: Sequence[int], x: State) -> None:
        if self.output.save_raw:
            for i, state in zip(indices, x, strict=True):
                images.write_npz(raw_path(self.output.folder, i), {"x": (state.shape, state.dtype, [state])})
        if self.pixels is not None:
            for i, image in zip(indices, self._to_uint8(x), strict=True):
                images.write_png(images.image_path(self.output.folder, i), image)

    def _to_uint8(self, x: State) -> UInt8:
        assert self.pixels is not None
        return images.to_uint8(self.pixels(x, self.output.batch), self.sampling.settings.uint8)
