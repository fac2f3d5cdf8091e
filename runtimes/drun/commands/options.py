"""Converts typed options into the values that the library takes."""

from __future__ import annotations

import re

from drun.errors import ConfigError


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """`["eta=0.5"]` -> `{"eta": "0.5"}`. Raises ConfigError where the `=` is missing."""
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set got '{assignment}', expected option=value")
        parsed[key.strip()] = value.strip()
    return parsed


def parse_interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"--interval got '{text}', expected two times such as 0,0.7") from None
    return low, high


def parse_shard(text: str) -> tuple[int, int]:
    try:
        index, count = map(int, text.split("/"))
    except ValueError:
        raise ConfigError(f"--shard got '{text}', expected I/K such as 0/4") from None
    if not 0 <= index < count:
        raise ConfigError(f"--shard got '{text}', expected I from 0 to K-1")
    return index, count


def parse_channels(text: str) -> int | None:
    if text in ("", "all"):
        return 0 if text else None
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise ConfigError(f"--cfg-channels got '{text}', expected all or a number such as 3")
    return int(text)
