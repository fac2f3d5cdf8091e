"""The settings of `dbench coreml`."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core.options import argument, option

SUITE = "coreml"


@dataclass(frozen=True)
class CoremlSettings:
    model: str = argument(
        "Checkpoint, folder of a training run, or recipe from 'dtrain recipes', whose network gets random weights."
    )
    units: tuple[str, ...] = option((), "Unit that packages are written for; repeatable (default: all).", flag="--unit")
    precisions: tuple[str, ...] = option((), "Precision; repeatable (default: all).", flag="--precision")
    steps: int = option(
        250, "Steps of the trajectory on the same noise; 0: packages are made and weighed alone.", least=0
    )
    repeats: int = option(5, "Timed calls of the executor and of eager PyTorch.", least=2)
    assignments: tuple[str, ...] = option(
        (), "Change a setting, such as image_size=64; of a recipe data.image_size=64; repeatable.",
        flag="--set", metavar="KEY=VALUE",
    )  # fmt: skip
