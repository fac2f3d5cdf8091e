"""The settings of `dbench latency`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUITE = "latency"


@dataclass(frozen=True)
class LatencySettings:
    bundle: Path
    checkpoint: Path | None = None  # also measure eager torch with its weights
    backends: tuple[str, ...] = ()  # none: all that can open the bundle here
    batch: int = 1  # images a call
    steps: int = 50  # of the sampling loop
    repeats: int = 20  # timed calls and loops; a quarter as many cold starts
    threads: int = 0  # 0: one for each core
