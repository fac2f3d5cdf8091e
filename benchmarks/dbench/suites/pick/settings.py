"""The settings of `dbench pick`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option
from drun.settings import DEFAULT_BATCH

SUITE = "pick"


@dataclass(frozen=True)
class PickSettings:
    bundle: Path = argument("Bundle folder.")
    precisions: tuple[str, ...] = option(
        (), "Arithmetic that may win, such as fp32; repeatable (default: all).", flag="--precision"
    )
    batch: int = option(DEFAULT_BATCH, "Images computed at a time.", least=1)
    steps: int = option(10, "Sampling steps of a timed batch, at most the model's T.", least=1)
    repeats: int = option(5, "Number of timed batches of each.", least=2)
    threads: int = option(0, "Processor threads of every candidate; 0: the runtime's choice.", least=0)
    trust: bool = option(False, "Open artifacts that can execute code, such as a .pt2.")
