"""Large images cut into square training tiles, with a hold-out of whole images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from drun.console import Report, silent
from drun.errors import ConfigError, DataError
from drun.files import atomic_folder, write_json
from dtrain.data.image_files import MAX_PIXELS_TO_CUT, find_files, pixel_limit, read_images

TRAIN, HOLDOUT = "train", "holdout"


@dataclass(frozen=True)
class TileSummary:
    """The result of `cut_tiles`. num_sources counts files; num_too_small the images in them that give no tile."""

    num_sources: int
    num_train: int
    num_holdout: int
    num_blank: int
    num_too_small: int
    note: str


@dataclass
class _Source:
    """One file, and the tiles that were cut from it."""

    path: Path
    tiles: list[str] = field(default_factory=list)
    num_blank: int = 0
    num_too_small: int = 0
    split: str = TRAIN


def cut_tiles(
    source: str | Path,
    out: str | Path,
    size: int = 128,
    overlap: int = 0,
    holdout: float = 0.1,
    min_std: float = 2.0,
    seed: int = 0,
    report: Report = silent,
) -> TileSummary:
    """Cut images into PNG tiles: out/train/*.png, out/holdout/*.png and the record out/tiles.json.

    source: a folder (searched recursively), an image file, or a uint8 .npy stack (N, H, W) or (N, H, W, 3).
        Images of up to MAX_PIXELS_TO_CUT pixels, one of them at a time in memory: at most 4 GB, for a moment 8.
    out: the folder to make; it appears only when everything is written.
    size: side of a tile, pixels.
    overlap: pixels that neighbouring tiles share. Tiles start at the top left; what is left over at the
        right and at the bottom, less than a tile, is dropped.
    holdout: share of the files, in [0, 1), whose tiles are all kept from training: at least one file if it
        is above 0, and never the last one. Whole files, because neighbouring tiles look alike; the images
        of a stack are frames of one run, so a stack is one file.
    min_std: tiles with a standard deviation below this are blank and dropped (grey levels of 0..255).
    seed: chooses the hold-out.

    Tiles are named <file stem>-<y>-<x>.png, and those of stacks <file stem>-<frame>-<y>-<x>.png, in pixels
    from the top left; stems that several files share get a number.
    Raises DataError if out is not empty, a file cannot be read, or no tile is left, and ConfigError for
    settings out of range.
    """
    _check_settings(size, overlap, holdout, min_std)
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"the output '{out}' is not an empty folder: choose a new one, or remove it")
    sources = [_Source(path) for path in find_files(source)]
    with atomic_folder(out) as folder:
        (folder / TRAIN).mkdir()
        (folder / HOLDOUT).mkdir()
        _cut_all(sources, folder, size, size - overlap, min_std, report)
        _check_any_tiles(source, sources, size, min_std)
        _hold_out(sources, folder, holdout, seed)
        summary = _summary(sources, holdout)
        settings = {"size": size, "overlap": overlap, "holdout": holdout, "min_std": min_std, "seed": seed}
        root = source if source.is_dir() else source.parent
        rows = [_row(source, root) for source in sources]
        record = {"settings": settings, "counts": asdict(summary), "sources": rows}
        write_json(folder / "tiles.json", record)
    return summary


def _check_settings(size: int, overlap: int, holdout: float, min_std: float) -> None:
    if size < 1 or not 0 <= overlap < size:
        got = f"size {size}, overlap {overlap}"
        raise ConfigError(f"tiles do not advance: got {got}, expected 0 <= overlap < size")
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout is a share of the files: got {holdout}, expected 0 <= holdout < 1")
    if not min_std >= 0:  # NaN is not
        raise ConfigError(f"min_std is a standard deviation: got {min_std}, expected at least 0 grey levels")


# ---- cutting --------------------------------------------------------------------------------------------


def _cut_all(sources: list[_Source], folder: Path, size: int, stride: int, min_std: float, report: Report) -> None:
    labels: set[str] = set()
    with pixel_limit(MAX_PIXELS_TO_CUT):
        for done, source in enumerate(sources, 1):
            for name, image in _named_images(source.path):
                _cut(image, _unique(name, labels), source, folder, size, stride, min_std)
            report("cutting tiles", done, len(sources))


def _named_images(path: Path) -> Iterator[tuple[str, Image.Image]]:
    is_stack = path.suffix.lower() == ".npy"
    for frame, image in enumerate(read_images(path, MAX_PIXELS_TO_CUT)):
        yield (f"{path.stem}-{frame:06d}" if is_stack else path.stem), image


def _unique(name: str, taken: set[str]) -> str:
    # Compared without case: some file systems take Forest.png and forest.png for one file.
    label, number = name, 2
    while label.casefold() in taken:
        label, number = f"{name}_{number}", number + 1
    taken.add(label.casefold())
    return label


def _cut(image: Image.Image, label: str, source: _Source, folder: Path, size: int, stride: int, min_std: float) -> None:
    if min(image.size) < size:
        source.num_too_small += 1
        return
    rows, columns = (range(0, side - size + 1, stride) for side in (image.height, image.width))
    for y, x in product(rows, columns):
        tile = image.crop((x, y, x + size, y + size))
        if np.asarray(tile.convert("L")).std() < min_std:
            source.num_blank += 1
        else:
            source.tiles.append(f"{label}-{y}-{x}.png")
            tile.save(folder / TRAIN / source.tiles[-1])


def _check_any_tiles(path: Path, sources: list[_Source], size: int, min_std: float) -> None:
    if any(source.tiles for source in sources):
        return
    num_small, num_blank = sum(s.num_too_small for s in sources), sum(s.num_blank for s in sources)
    raise DataError(
        f"no tile left of '{path}': images smaller than {size}x{size} pixels: {num_small}, blank tiles "
        f"(standard deviation below {min_std} grey levels): {num_blank}; lower the size or min_std"
    )


# ---- the hold-out and the record ------------------------------------------------------------------------


def _hold_out(sources: list[_Source], folder: Path, holdout: float, seed: int) -> None:
    """Move the tiles of a random share of the files that have tiles; files without tiles would leave a split empty."""
    useful = [source for source in sources if source.tiles]
    wanted = max(1, round(holdout * len(useful))) if holdout > 0 else 0
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(useful))
    for index in order[: min(wanted, len(useful) - 1)]:
        useful[index].split = HOLDOUT
        for name in useful[index].tiles:
            (folder / TRAIN / name).rename(folder / HOLDOUT / name)


def _summary(sources: list[_Source], holdout: float) -> TileSummary:
    counts = {split: sum(len(s.tiles) for s in sources if s.split == split) for split in (TRAIN, HOLDOUT)}
    note = "hold-out is empty: only one file has tiles, and the split is by file"
    return TileSummary(
        num_sources=len(sources),
        num_train=counts[TRAIN],
        num_holdout=counts[HOLDOUT],
        num_blank=sum(source.num_blank for source in sources),
        num_too_small=sum(source.num_too_small for source in sources),
        note=note if holdout > 0 and not counts[HOLDOUT] else "",
    )


def _row(source: _Source, root: Path) -> dict[str, str | int | None]:
    return {
        "source": source.path.relative_to(root).as_posix(),
        "split": source.split if source.tiles else None,
        "num_tiles": len(source.tiles),
        "num_blank": source.num_blank,
        "num_too_small": source.num_too_small,
    }
