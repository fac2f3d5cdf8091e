"""The settings of `dbench kernel`."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core.options import option
from drun.settings import DEFAULT_BATCH

SUITE = "kernel"


@dataclass(frozen=True)
class KernelSettings:
    batch: int = option(DEFAULT_BATCH, "Images computed at a time.", least=1)
    channels: int = option(4, "Channels of a state.", least=1)
    side: int = option(32, "Height and width of a state.", least=1)
    repeats: int = option(20, "Number of timed walks of each.", least=2)
