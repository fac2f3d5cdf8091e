"""Captions: how samples were drawn and which weights were used, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drun.bundle.average import NOTICEABLE_SHARE, percent
from drun.bundle.card import Classes
from drun.bundle.manifest import CheckpointEntry
from drun.run.labels import in_turn
from drun.typed import typed

WEIGHTS = {"ema": "EMA weights", "online": "online weights"}
#: More classes are counted instead of named.
MOST_NAMED = 12


def drawn(settings: Mapping[str, Any], weights: str) -> str:
    """Seed, steps, sampler, guidance and classes from the settings in run.json, and the weights, in words."""
    parts = [
        f"seed {settings['seed']}",
        f"{settings['num_steps']} {settings['sampler']} steps",
        _guidance(settings),
        _classes(settings),
        weights,
        settings["backend"] + (f" in {settings['precision']}" if settings["precision"] else ""),
    ]
    return ", ".join(parts)


def weights(checkpoint: CheckpointEntry) -> str:
    """The weights in words: EMA or online, their step, and how much of an average is still random."""
    words = named(checkpoint["weights"])
    if checkpoint["step"] is not None:
        words += f" of step {checkpoint['step']:,}"
    share = checkpoint.get("initial_share")
    return words if share is None or share <= NOTICEABLE_SHARE else f"{words} ({percent(share)} initial weights)"


def named(kind: str) -> str:
    """The words for a kind of weights."""
    return WEIGHTS.get(kind, f"{kind} weights")


def _guidance(settings: Mapping[str, Any]) -> str:
    if settings["cfg"] == 1:
        return "no guidance"
    interval = settings["interval"]
    return f"guidance {settings['cfg']:g}" + (f" on [{interval[0]:g}, {interval[1]:g}]" if interval else "")


def _classes(settings: Mapping[str, Any]) -> str:
    if settings["classes"] is None:
        return "no classes"
    spec, classes = settings["labels"], typed(Classes, settings["classes"], "classes")
    labels = in_turn(spec, classes)
    if labels is None:
        return f"random classes of {classes.count}"
    in_words = "in turn: " if spec in (None, "balanced") else ""
    names = classes.names or tuple(map(str, range(classes.count)))
    return f"classes {in_words}{listed([names[label] for label in labels])}"


def listed(names: list[str]) -> str:
    """All names, or the first and the last of many."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names):,})"
