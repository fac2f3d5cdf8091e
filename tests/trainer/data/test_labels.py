"""Labels by name, or one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drun.errors import DataError
from dtrain.data.labels import read_labels

NAMES = ["a.png", "b/ä.png"]


def test_labels_by_name_in_any_order() -> None:
    pairs = [["b/ä.png", 999_999], ["other.png", "no label"], ["a.png", 0], ["a.png", 0]]
    assert read_labels(json.dumps({"labels": pairs}), NAMES, "x") == [0, 999_999]
    assert read_labels(b'{"labels": null}', NAMES, "x") is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[", b"[]", b"3", b"[" * 100_000, b'{"labels": ' + b"[" * 100_000, b'{"labels": NaN}',
        b'{"labels": {"a.png": 0}}', b'{"labels": "ab"}', b'{"labels": ["ab", "cd"]}', b'{"labels": [["a.png"]]}',
        b'{"labels": [[["a.png"], 0]]}', b'{"labels": [["a.png", 0, 0]]}', b'{"labels": [["a.png", 0], ["a.png", 1]]}',
        b'{"labels": [["a\\ud800.png", 0]]}', b'{"labels": [["a.png", ' + b"9" * 5000 + b"]]}", b'{"label": []}',
    ],
)  # fmt: skip
def test_broken_files(content: bytes) -> None:
    with pytest.raises(DataError, match=r'^wrong labels in x: .+; expected \{"labels": \[\[name, class\], \.\.\.\]\}$'):
        read_labels(content, NAMES, "x")


@pytest.mark.parametrize("label", [-1, 0.5, True, None, "0", [0], {}, 10**30, 1_000_000])
def test_wrong_labels(label: Any) -> None:
    with pytest.raises(DataError, match=r"^wrong label in x: got .* for 'a\.png', expected a whole number"):
        read_labels(json.dumps({"labels": [["a.png", label], ["b/ä.png", 0]]}), NAMES, "x")


def test_missing_labels() -> None:
    with pytest.raises(DataError, match=r"^no label for 'b/ä\.png' in x: add it there, or remove the file$"):
        read_labels(json.dumps({"labels": [["a.png", 0], ["a.png\0", 0]]}), NAMES, "x")
