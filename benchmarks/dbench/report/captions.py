"""How samples were drawn and weights taken, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEIGHTS = {"ema": "EMA weights", "online": "online weights"}
#: More classes are counted instead of named.
MOST_NAMED = 12


def drawn(settings: Mapping[str, Any]) -> str:
    """Seed, steps, sampler, guidance, classes and weights, of the settings in run.json."""
    parts = [
        f"seed {settings['seed']}",
        f"{settings['num_steps']} {settings['sampler']} steps",
        _guidance(settings),
        _classes(settings),
        weights(settings["weights"]),
        settings["backend"] + (f" in {settings['precision']}" if settings["precision"] else ""),
    ]
    return ", ".join(parts)


def weights(kind: str) -> str:
    """`ema` -> `EMA weights`."""
    return WEIGHTS.get(kind, f"{kind} weights")


def _guidance(settings: Mapping[str, Any]) -> str:
    if settings["cfg"] == 1:
        return "no guidance"
    interval = settings["interval"]
    return f"guidance {settings['cfg']:g}" + (f" on [{interval[0]:g}, {interval[1]:g}]" if interval else "")


def _classes(settings: Mapping[str, Any]) -> str:
    classes, labels = settings["classes"], settings["labels"]
    if classes is None:
        return "no classes"
    names = classes["names"] or [str(label) for label in range(classes["count"])]
    if labels == "random":
        return f"random classes of {len(names)}"
    if labels in (None, "balanced"):
        return f"classes in turn: {listed(names)}"
    return f"classes {listed([_name(label.strip(), names) for label in labels.split(',')])}"


def _name(label: str, names: list[str]) -> str:
    return names[int(label)] if label.isdecimal() and int(label) < len(names) else label


def listed(names: list[str]) -> str:
    """All names, or the first and the last of many."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names):,})"
