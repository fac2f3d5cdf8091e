"""The settings of `dbench train`."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core.options import argument, option

SUITE = "train"
LIVE, CACHED, NONE = TEACHER = ("live", "cached", "none")


@dataclass(frozen=True)
class TrainSettings:
    recipe: str = argument("Name from 'dtrain recipes', or a .toml file.")
    batch: int = option(0, "Images in a step; 0: as many as in the recipe.", least=0)
    steps: int = option(10, "Timed steps of each candidate.", least=1)
    warmup: int = option(3, "Untimed steps before the timed ones.", least=2)
    device: str = option("auto", "Device: auto, cpu, cuda or mps.")
    precision: str = option("auto", "Precision: auto (the recipe's), fp32, bf16 or fp16.")
    compile: str = option("auto", "torch.compile: auto (the recipe's), on or off.")
    teacher: tuple[str, ...] = option(
        (), "Teachers: live, cached or none; repeatable (default: all three, if there are any)."
    )
    assignments: tuple[str, ...] = option(
        (), "Change a setting, such as model.size=S; repeatable.", flag="--set", metavar="KEY=VALUE"
    )
