"""How samples were drawn and weights taken, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drun.bundle.average import NOTICEABLE_SHARE, percent
from drun.bundle.manifest import Checkpoint

WEIGHTS = {"ema": "EMA weights", "online": "online weights"}
#: More classes are counted instead of named.
MOST_NAMED = 12


def drawn(settings: Mapping[str, Any], checkpoint: Checkpoint) -> str:
    """Seed, steps, sampler, guidance and classes, of the settings in run.json, and the weights of the bundle."""
    parts = [
        f"seed {settings['seed']}",
        f"{settings['num_steps']} {settings['sampler']} steps",
        _guidance(settings),
        _classes(settings),
        weights(checkpoint),
        settings["backend"] + (f" in {settings['precision']}" if settings["precision"] else ""),
    ]
    return ", ".join(parts)


def weights(checkpoint: Checkpoint) -> str:
    """EMA or online, of which step, and how much of an average is still random."""
    words = WEIGHTS.get(checkpoint["weights"], f"{checkpoint['weights']} weights")
    if checkpoint["step"] is not None:
        words += f" of step {checkpoint['step']:,}"
    share = checkpoint.get("initial_share")
    return words if share is None or share <= NOTICEABLE_SHARE else f"{words} ({percent(share)} initial weights)"


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
