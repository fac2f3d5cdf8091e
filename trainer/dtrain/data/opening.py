"""Opens the data set that a recipe names, latents or pixels, and checks it against the model first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drun.console import Report, warn
from drun.errors import ConfigError, DataError
from dtrain import config, models
from dtrain.config import Data, Recipe
from dtrain.data.dataset import NO_PICTURES, Dataset, LatentImages, PixelImages
from dtrain.data.image_files import takes_in
from dtrain.data.latents import Latents, are_latents, open_latents
from dtrain.data.pixels import check_cache, check_format, decoded
from dtrain.data.sources import ImageSource, open_source

Indices = NDArray[np.int64]


def open_dataset(recipe: Recipe, out: Path, report: Report) -> Dataset:
    """The images of a recipe: latents if the folder holds some, else pixels, decoded once into the user's cache.

    Args:
        out: the folder of the run, whose previews must not be taken for images.

    Raises:
        ConfigError: images that do not fit the model, or labels that it has no rows for. DataError: broken data.
    """
    return found(recipe, out).open(report)


@dataclass(frozen=True)
class FoundImages:
    """Images that fit the model.

    shape: (C, H, W) of what the network sees. open: decodes them; it may take hours. count: of the images that must be
    decoded. decode: image number i alone; raises DataError naming a broken one.
    """

    shape: tuple[int, int, int]
    open: Callable[[Report], Dataset]
    count: int = 0
    decode: Callable[[int], object] = field(default=lambda i: None)


def found(recipe: Recipe, out: Path) -> FoundImages:
    """All checks of `open_dataset` that need no decoding, with the same arguments and errors."""
    place = place_of(recipe)
    images = _found_latents(recipe, place) if are_latents(place) else _found_pixels(recipe, out)
    _check_shape(images.shape, recipe)
    return images


def place_of(recipe: Recipe) -> Path:
    """The place of a recipe's images. Raises ConfigError if the recipe does not state it."""
    if not recipe.data.source:
        more = f"; 'dtrain recipes {recipe.name}' says which" if recipe.name in config.names() else ""
        raise ConfigError(
            f"recipe '{recipe.name}' brings no images: add --data with a folder, .zip, .npz, idx file or latents{more}"
        )
    return Path(recipe.data.source)


def described(data: Data, dataset: Dataset) -> Data:
    """The recipe's section, completed with facts that only the images tell."""
    return replace(
        data,
        latent=dataset.latent,
        class_names=dataset.class_names,
        num_images=len(dataset),
        fingerprint=dataset.fingerprint,
    )


def warn_of_change(before: Data, now: Data) -> None:
    """Warn if a resumed run has other images or classes than at its start."""
    if before.fingerprint not in ("", now.fingerprint):
        warn(f"the images of '{now.source}' are not those that the run began with: it goes on with these")
    elif before.class_names not in ((), now.class_names):
        warn(f"the classes of '{now.source}' are not called as when the run began: it goes on with these names")


# ---- latents and pixels ---------------------------------------------------------------------------------


def _found_latents(recipe: Recipe, place: Path) -> FoundImages:
    num_classes, opened = num_classes_of(recipe), open_latents(place)
    labels, names = (opened.labels, opened.class_names) if num_classes else (None, ())
    _check_labels(labels, str(place), num_classes)
    _check_mirrored(opened, recipe)
    if "teachers" in recipe.objective and not recipe.objective.get("cache") and opened.images is None:
        raise DataError(NO_PICTURES)
    latent = {"vae": opened.vae, "scale": list(opened.scale), "bias": list(opened.bias)}
    return FoundImages(opened.shape, lambda report: LatentImages(labels, opened, latent=latent, class_names=names))


def _found_pixels(recipe: Recipe, out: Path) -> FoundImages:
    channels, size, source = pixel_channels(recipe), recipe.data.image_size, open_source(recipe.data.source)
    _check_outside(out, source)
    check_cache(source, size, channels)
    labels, names = labels_of(source, num_classes_of(recipe))  # checked before hours of decoding
    return FoundImages(
        (channels, size, size),
        lambda report: PixelImages(labels, decoded(source, size, channels, report), class_names=names),
        len(source.names),
        source.read,
    )


def num_classes_of(recipe: Recipe) -> int:
    """The number of labels that the model knows; 0: it takes none."""
    classes = models.outline(recipe.model).classes
    return classes.count if classes else 0


def pixel_channels(recipe: Recipe) -> int:
    """1 or 3. Raises ConfigError for a model of latents, or of no pictures at all."""
    channels = models.outline(recipe.model).state_shape(recipe.data.image_size)[0]
    if channels not in (1, 3):
        raise ConfigError(
            f"'{recipe.data.source}' holds no latents, which a model of {channels} channels draws: make some with "
            "dtrain encode"
        )
    check_format(recipe.data.image_size, channels)
    return channels


def labels_of(source: ImageSource, num_classes: int) -> tuple[Indices | None, tuple[str, ...]]:
    """The label of each image and the names of the `num_classes` classes. Raises errors as `open_dataset` does."""
    if not num_classes:
        return None, ()
    labels, names = source.labels()
    if labels is None:
        _check_none_beside(source)
    _check_labels(labels, str(source.path), num_classes)
    return labels, tuple(names or ())


def _check_none_beside(source: ImageSource) -> None:
    """Refuse pictures beside the folders of classes: with one of them, no image would have a class."""
    beside = [name for name in source.names if "/" not in name]
    if 0 < len(beside) < len(source.names):
        raise ConfigError(
            f"'{source.path}' has a folder for each class, and '{beside[0]}' is in none, as {len(beside):,} of its "
            f"{len(source.names):,} images: move them into one, or away"
        )


def _check_outside(out: Path, source: ImageSource) -> None:
    """Refuse an output folder among the images: the next run would take its previews for images."""
    if takes_in(source.path, out):
        raise DataError(
            f"the image folder '{source.path}' would take in the run's folder '{out}', whose previews the next run "
            "would read as images: choose another --out"
        )


# ---- checks ---------------------------------------------------------------------------------------------


def _check_labels(labels: Indices | None, source: str, num_classes: int) -> None:
    if not num_classes:
        return
    if labels is None:
        raise ConfigError(
            f"'{source}' has no labels, the model has {num_classes} classes: sort the images into a folder for each "
            "class, add a dataset.json, or set model.num_classes=0"
        )
    highest = int(labels.max())
    if highest >= num_classes:
        raise ConfigError(
            f"'{source}' has labels up to {highest}, the model has {num_classes} classes: set model.num_classes="
            f"{highest + 1}"
        )


def _check_shape(shape: tuple[int, int, int], recipe: Recipe) -> None:
    augmented = ", ".join(recipe.data.augment)
    if augmented and recipe.objective.get("cache"):
        raise ConfigError(f"data.augment got {augmented}, cached features are of the pictures as they are: choose one")
    expected = models.outline(recipe.model).state_shape(shape[1])
    if shape != expected:
        raise ConfigError(
            f"'{recipe.data.source}' holds states of shape {shape}, the model takes {expected}: change its settings, "
            "such as model.channels"
        )


def _check_mirrored(source: Latents, recipe: Recipe) -> None:
    """Refuse augmentations of latents other than the versions that were encoded: latents cannot be turned."""
    modes = recipe.data.augment
    if others := [mode for mode in modes if mode != "hflip"]:
        raise ConfigError(
            f"data.augment got {', '.join(others)}, but latents cannot be turned, expected hflip or nothing: "
            "set data.augment=['hflip'] with latents of dtrain encode --flip, or data.augment=[]"
        )
    if modes and source.flipped is None:
        raise ConfigError(
            f"data.augment got hflip, but '{recipe.data.source}' holds no latents of mirrored images: make them by "
            "dtrain encode --flip, or train without, by --set data.augment=[]"
        )
