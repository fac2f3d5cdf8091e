"""Captions say all that an image depends on."""

from __future__ import annotations

from typing import Any

import pytest

from dbench.core import captions
from drun.bundle.manifest import CheckpointEntry

SETTINGS = {
    "seed": 3, "num_steps": 250, "sampler": "euler", "cfg": 1.0, "interval": None, "labels": None, "backend": "ort",
    "precision": "fp32", "classes": None,
}  # fmt: skip
EMA = CheckpointEntry(file="x.pt", sha256="", weights="ema", step=1600, settings={})
DIGITS = {"count": 10, "null_label": 10, "names": []}
CLOTHES = {"count": 3, "null_label": 3, "names": ["shirt", "trouser", "pullover"]}
NUMBERS = {"count": 4, "null_label": 4, "names": ["1", "10", "2", "a,b"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "seed 3, 250 euler steps, no guidance, no classes, EMA weights of step 1,600, ort in fp32"),
        ({"backend": "null", "precision": None}, "EMA weights of step 1,600, null"),
        ({"classes": DIGITS, "cfg": 1.5}, "guidance 1.5, classes in turn: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, EMA"),
        ({"classes": DIGITS, "cfg": 4.0, "interval": [0, 0.7]}, "guidance 4 on [0, 0.7]"),
        ({"classes": CLOTHES}, "classes in turn: shirt, trouser, pullover"),
        ({"classes": CLOTHES, "labels": "balanced"}, "classes in turn: shirt, trouser, pullover"),
        ({"classes": CLOTHES, "labels": "random"}, "random classes of 3"),
        ({"classes": CLOTHES, "labels": "2, 0"}, "classes pullover, shirt"),
        ({"classes": CLOTHES, "labels": "pullover,1"}, "classes pullover, trouser"),
        ({"classes": NUMBERS, "labels": "2"}, "classes 2, EMA"),  # a name goes before a number
        ({"classes": NUMBERS, "labels": "a,b"}, "classes a,b, EMA"),
        ({"classes": DIGITS | {"count": 1000}}, "classes in turn: 0 to 999 (1,000)"),
    ],
)
def test_how_samples_were_drawn(changes: dict[str, Any], expected: str) -> None:
    assert expected in captions.drawn(SETTINGS | changes, captions.weights(EMA))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "EMA weights of step 1,600"),
        ({"weights": "online", "step": None}, "online weights"),
        ({"initial_share": 0.22}, "EMA weights of step 1,600 (22 % initial weights)"),
        ({"initial_share": 0.001}, "EMA weights of step 1,600"),
    ],
)
def test_which_weights(changes: dict[str, Any], expected: str) -> None:
    assert captions.weights(EMA | changes) == expected  # type: ignore[arg-type, operator]
