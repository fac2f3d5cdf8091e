"""Describes in one line what a run is trained on and what is lost, from the headers and without decoding anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drun.console import say, warn
from dtrain.config import Recipe
from dtrain.data.image_files import IMAGE_SUFFIXES, MAX_PIXELS, Look, is_hidden, pixel_limit
from dtrain.data.latents import are_latents, open_latents
from dtrain.data.opening import Indices, labels_of, num_classes_of, pixel_channels, place_of
from dtrain.data.sources import ImageSource, open_source

#: The most headers that are read. On a local disk they take a third of a second; all of ImageNet's take a minute.
MAX_LOOKS = 5000
#: At most this share of images of another size looks like a mistake.
ODD_SHARE = 0.01
MAX_NAMED = 3


@dataclass(frozen=True)
class Survey:
    line: str  # such as "60,000 images, 10 classes, 28x28 grey -> 16x16 grey"
    warnings: tuple[str, ...]  # one sentence for each thing that is lost or odd


def tell(recipe: Recipe) -> None:
    """Print what a recipe is trained on. Raises errors as `survey` does."""
    found = survey(recipe)
    say(found.line)
    for warning in found.warnings:
        warn(warning)


def survey(recipe: Recipe) -> Survey:
    """Look at up to MAX_LOOKS evenly spread images of a recipe.

    Raises:
        ConfigError: images that do not fit the model, or labels that it has no rows for. DataError: broken data.
    """
    num_classes = num_classes_of(recipe)
    if are_latents(place_of(recipe)):
        return _of_latents(recipe, num_classes)
    channels, source = pixel_channels(recipe), open_source(recipe.data.source)
    labels, names = labels_of(source, num_classes)
    looked = _Looked.at(source)
    size = recipe.data.image_size
    totals, trained = _totals(looked.total, labels, looked.note), f"{size}x{size} {_colour(channels == 1)}"
    line = f"{totals}, {looked.described()} -> {trained}"
    if source.path.parent == Path(recipe.data.source):  # names the chosen file
        line = f"{source.path.name}: {line}"
    classes = (*_no_classes(source.path, names), *_unlearned(labels, num_classes))
    return Survey(line, (*looked.warnings(size, channels), *classes))


def _of_latents(recipe: Recipe, num_classes: int) -> Survey:
    latents = open_latents(Path(recipe.data.source))
    labels = latents.labels if num_classes else None
    shape, size = "x".join(map(str, latents.shape)), latents.image_size
    line = f"{_totals(len(latents), labels)}, {size}x{size} colour as {shape} latents"
    return Survey(line, _unlearned(labels, num_classes))


# ---- classes --------------------------------------------------------------------------------------------


def _totals(num_images: int, labels: Indices | None, note: str = "") -> str:
    images = f"{num_images:,} image{'s' if num_images != 1 else ''}{note}"
    if labels is None:
        return images
    count = len(np.unique(labels))
    return f"{images}, {count:,} class{'es' if count != 1 else ''}"


def _no_classes(root: Path, names: tuple[str, ...]) -> Iterator[str]:
    """The folders beside the classes `names` whose files have other formats."""
    for folder in sorted(root.iterdir()) if names and root.is_dir() else ():
        if folder.is_dir() and not is_hidden(Path(folder.name)) and folder.name not in names:
            yield f"'{folder}' is not a class: it holds no images in {', '.join(IMAGE_SUFFIXES)}"


def _unlearned(labels: Indices | None, num_classes: int) -> tuple[str, ...]:
    if labels is None:
        return ()
    missing = np.setdiff1d(np.arange(num_classes), labels).tolist()
    if not missing:
        return ()
    shown = ", ".join(map(str, missing[:MAX_NAMED])) + (", …" if len(missing) > MAX_NAMED else "")
    advice = f"; set model.num_classes={int(labels.max()) + 1}" if labels.max() + 1 < num_classes else ""
    return (
        f"the model has {num_classes:,} classes, the images show {num_classes - len(missing):,}: without images it "
        f"learns nothing of {shown}{advice}",
    )


# ---- headers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Looked:
    """The headers that were read. total: images in all. names, looks: those of the images that were looked at."""

    total: int
    names: list[str]
    looks: list[Look]

    @staticmethod
    def at(source: ImageSource) -> _Looked:
        total = len(source.names)
        if source.stack is not None:  # all of one size
            return _Looked(total, source.names, [source.look(0)] * total)
        chosen = np.unique(np.linspace(0, total - 1, min(total, MAX_LOOKS)).astype(int)).tolist()
        with pixel_limit(MAX_PIXELS):
            looks = [source.look(i) for i in chosen]
        return _Looked(total, [source.names[i] for i in chosen], looks)

    @property
    def note(self) -> str:
        return "" if self._is_all else f" ({len(self.looks):,} looked at)"

    def described(self) -> str:
        """Sizes and colours in words, such as "28x28 grey", or "short side 20 to 480 grey and colour"."""
        low, high = (f(_short(look) for look in self.looks) for f in (min, max))
        sizes = {_size(look) for look in self.looks}
        sides = sizes.pop() if len(sizes) == 1 else f"short side {low}{f' to {high}' if high > low else ''}"
        found = {look.is_grey for look in self.looks}
        colours = " and ".join(_colour(is_grey) for is_grey in sorted(found, reverse=True))
        return f"{sides} {colours}"

    def warnings(self, size: int, channels: int) -> Iterator[str]:
        yield from self._odd_sizes()
        if channels == 1:
            yield from self._if_some(
                lambda look: not look.is_grey, "in colour, which is lost: the model draws grey (model.channels=1)"
            )
        if channels == 3 and all(look.is_grey for look in self.looks):
            yield "all images are grey, and the model draws colour: model.channels=1 is enough"
        yield from self._if_some(
            lambda look: look.has_alpha, "stored with transparency, which is dropped: hidden colours show"
        )
        yield from self._if_some(lambda look: look.is_16_bit, "of 16 bits, of which the upper 8 are kept")
        yield from self._sizes(size)

    def _odd_sizes(self) -> Iterator[str]:
        """A warning about a few images whose size differs from that of all others, most likely by mistake."""
        (usual, count), *others = Counter(map(_size, self.looks)).most_common()
        odd = len(self.looks) - count
        if others and odd <= ODD_SHARE * len(self.looks):
            sizes = zip(self.names, map(_size, self.looks), strict=True)
            named = [f"'{name}' is {size}" for name, size in sizes if size != usual][:MAX_NAMED]
            yield f"{self._share(odd)} not {usual} as the rest: {', '.join(named)}"

    def _sizes(self, size: int) -> Iterator[str]:
        percent = max(100 * (1 - _short(look) / max(look.width, look.height)) for look in self.looks)
        yield from self._if_some(
            lambda look: look.width != look.height, f"not square: the centre is kept, up to {percent:.0f} % is cut off"
        )
        low = min(map(_short, self.looks))
        yield from self._if_some(
            lambda look: _short(look) < size, f"smaller than {size}x{size} and enlarged, the smallest from {low} pixels"
        )
        if {_size(look) for look in self.looks} == {f"{low}x{low}"} and low > size:
            yield f"the images are {low}x{low}, and lose detail at {size}x{size}: data.image_size={low} would keep it"

    def _if_some(self, has: Callable[[Look], bool], what: str) -> Iterator[str]:
        found = [name for name, look in zip(self.names, self.looks, strict=True) if has(look)]
        if found:
            example = "" if len(found) == len(self.looks) else f", such as '{found[0]}',"
            yield f"{self._share(len(found), example)} {what}"

    def _share(self, count: int, example: str = "") -> str:
        total = len(self.looks)
        some = "all" if count == total else f"{count:,} of {total:,}"
        return f"{some} images{'' if self._is_all else ' looked at'}{example} {'is' if count == 1 < total else 'are'}"

    @property
    def _is_all(self) -> bool:
        return len(self.looks) == self.total


def _short(look: Look) -> int:
    return min(look.width, look.height)


def _size(look: Look) -> str:
    return f"{look.width}x{look.height}"


def _colour(is_grey: bool) -> str:
    return "grey" if is_grey else "colour"
