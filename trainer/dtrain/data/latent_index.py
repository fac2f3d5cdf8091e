"""Checks the index.json of a folder of latents."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as brief
from typing import Any

import numpy as np

from dtrain.data.labels import MAX_CLASSES, is_label

FORMAT = {"format": "dtrain latents", "version": 1}
#: Largest side of a latent or an image, and most channels: beyond any that exist, and below what overflows.
MAX_SIDE = 65_536
#: The largest value of float32, to which scale and bias are converted.
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def check_index(index: Mapping[str, Any]) -> None:
    """Check type, range and length of every field that is read.

    Raises:
        KeyError, ValueError: a field is missing or wrong; call this behind a door.
    """
    if {key: index[key] for key in FORMAT} != FORMAT:
        raise ValueError(f"expected {FORMAT}")
    for key in ("shard_size", "image_size"):
        _whole(index[key], key)
    if not isinstance(index["shape"], list) or len(index["shape"]) != 3:
        raise ValueError(f"shape got {brief(index['shape'])}, expected 3 sides")
    for side in index["shape"]:
        _whole(side, "shape")
    _constants(index["scale"], index["bias"], index["shape"][0])
    _texts(index["names"], "names")
    if not isinstance(index["vae"], dict) or not isinstance(index["vae"]["name"], str):
        raise ValueError(f"vae got {brief(index['vae'])}, expected an object with a name")
    _labels(index["labels"], index.get("classes"), len(index["names"]))


def _whole(value: Any, key: str) -> None:
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise ValueError(f"{key} got {brief(value)}, expected whole numbers in 1..{MAX_SIDE}")


def _constants(scale: Any, bias: Any, channels: int) -> None:
    for key, values in (("scale", scale), ("bias", bias)):
        if not isinstance(values, list) or len(values) != channels or not all(map(_is_float32, values)):
            raise ValueError(f"{key} got {brief(values)}, expected {channels} finite numbers")
    if min(scale) < _SMALLEST:
        raise ValueError(f"scale got {brief(scale)}, expected numbers above 0")


def _is_float32(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST  # NaN is not


def _texts(values: Any, key: str) -> None:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} are not one text or more")


def _labels(labels: Any, classes: Any, num_images: int) -> None:
    if classes is not None:
        _texts(classes, "classes")
    if labels is None:
        if classes is not None:
            raise ValueError("it has classes and no labels")
        return
    count = MAX_CLASSES if classes is None else len(classes)
    if not isinstance(labels, list) or len(labels) != num_images or not all(map(is_label, labels)):
        raise ValueError(f"expected no labels, or {num_images} whole numbers in 0..{count - 1}")
    if max(labels) >= count:
        raise ValueError(f"labels reach {max(labels)}, expected less than the {count} classes")
