"""The settings of `dbench train`."""

from __future__ import annotations

from dataclasses import dataclass

SUITE = "train"
LIVE, CACHED, NONE = TEACHER = ("live", "cached", "none")


@dataclass(frozen=True)
class TrainSettings:
    recipe: str  # a name from `dtrain recipes`, or a .toml file
    batch: int = 0  # images a step; 0: the recipe's
    steps: int = 10  # timed, of each candidate
    warmup: int = 3  # untimed before them; the first one compiles
    device: str = "auto"
    precision: str = "auto"  # auto: the recipe's
    compile: str = "auto"  # auto: the recipe's
    teacher: tuple[str, ...] = ()  # of live, cached, none; (): all three, if the recipe has teachers
    assignments: tuple[str, ...] = ()  # section.key=value
