"""The labels of images in a dataset.json, which StyleGAN's, DiT's and REPA's preparations write."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as brief
from typing import Any

from drun.errors import DataError, door
from drun.foreign import parse_json

LABELS = "dataset.json"
#: The most classes. No data set comes near this number, and a larger one is damage.
MAX_CLASSES = 1_000_000


def read_labels(content: str | bytes, names: Sequence[str], where: str) -> list[int] | None:
    """The label of each name in a dataset.json, {"labels": [[name, class], ...]}; None if its labels are null.

    Raises:
        DataError: the text is something else, lacks a name, has two labels for one name, or a wrong label.
    """
    with door(f"wrong labels in {where}", DataError, 'expected {"labels": [[name, class], ...]}'):
        pairs = parse_json(content)["labels"]
        if pairs is None:
            return None
        labels = _by_name(pairs)
    return [_label(labels, name, where) for name in names]


def is_label(value: Any) -> bool:
    """Whether a value is a whole number in 0..MAX_CLASSES - 1."""
    return type(value) is int and 0 <= value < MAX_CLASSES


def _by_name(pairs: Any) -> dict[str, Any]:
    if not isinstance(pairs, list):
        raise ValueError(f"got {type(pairs).__name__}")
    labels: dict[str, Any] = {}
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError(f"got {brief(pair)}")
        if labels.setdefault(pair[0], pair[1]) != pair[1]:
            raise ValueError(f"it has two labels for '{pair[0]}'")
    return labels


def _label(labels: dict[str, Any], name: str, where: str) -> int:
    if name not in labels:
        raise DataError(f"no label for '{name}' in {where}: add it there, or remove the file")
    label = labels[name]
    if not is_label(label):
        expected = f"expected a whole number from 0 up to {MAX_CLASSES - 1}"
        raise DataError(f"wrong label in {where}: got {brief(label)} for '{name}', {expected}")
    return int(label)
