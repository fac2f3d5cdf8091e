"""The settings that `--set` may state about a checkpoint, and their checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from drun.errors import ConfigError

SETTINGS = ("image_size", "schedule", "timesteps", "prediction", "process", "path", "num_heads")


def check(given: Mapping[str, str]) -> None:
    """Raises ConfigError for an unknown setting."""
    if unknown := sorted(set(given) - set(SETTINGS)):
        raise ConfigError(f"--set got '{unknown[0]}', expected one of {', '.join(SETTINGS)}")


def refuse_others(given: Mapping[str, str], used: Collection[str], name: str) -> None:
    """Raises ConfigError for a setting that has no effect on `name`."""
    if idle := [key for key in given if key not in used]:
        raise ConfigError(f"--set {idle[0]} has no use for {name}, expected {' or '.join(used)}: leave it out")


def whole_number(given: Mapping[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--set {key} got '{text}', expected a whole number above 0")
    return int(text)


def choice(given: Mapping[str, str], key: str, choices: Collection[str], default: str) -> str:
    value = given.get(key, default)
    if value not in choices:
        raise ConfigError(f"--set {key} got '{value}', expected one of {', '.join(choices)}")
    return value
