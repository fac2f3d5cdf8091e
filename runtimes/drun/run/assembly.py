"""Assembles the files of a whole run from its finished samples, and names the damaged ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from drun.errors import DataError, UserError
from drun.foreign import read_npz
from drun.run import images
from drun.run.output import Output, raw_path
from drun.run.sampling import Sampling

GRID_IMAGES = 64


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
        shown = np.stack(list(islice(rows, GRID_IMAGES)))
        images.write_png(folder / "grid.png", images.grid(shown, names=_names(sampling, classes, len(shown))))
    if output.save_raw:
        shape, dtype = sampling.card.data.shape, np.dtype(sampling.settings.state_dtype)
        states = _Rows(lambda i: read_npz(raw_path(folder, i))["x"], n, shape, dtype)
        raw: dict[str, images.Rows] = {"x": ((n, *shape), dtype, states)}
        images.write_npz(folder / "raw.npz", raw | label_rows)


def _names(sampling: Sampling, classes: NDArray[np.int64] | None, count: int) -> list[str]:
    """The class names of the first images, if the bundle has names."""
    known = sampling.card.classes
    if classes is None or known is None or not known.names:
        return []
    return [known.names[label] if label < known.count else "no class" for label in classes[:count]]


@dataclass(frozen=True)
class _Rows:
    """The rows 0..count-1, all of one shape and type. After a loop over them, `Damaged` names the rows that are not."""

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
        fits = row.shape == self.shape and row.dtype == self.dtype
        return row if fits and np.isfinite(row).all() else None
