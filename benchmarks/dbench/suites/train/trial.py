"""One training run to be measured: the functions of `dtrain run`, step by step.

`python -m dbench.suites.train.trial RECIPE.json FOLDER PRECISION COMPILE` is such a run on the processor. The suite
starts it as a process and weighs it from outside.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dbench.core.matmuls import synchronise
from drun.console import Report, silent
from drun.errors import ConfigError
from drun.foreign import read_json
from dtrain import config
from dtrain import device as devices
from dtrain.config import Recipe
from dtrain.device import Placement
from dtrain.train.start import start
from dtrain.train.step import read, read_ahead, update
from dtrain.train.workers import Workers

#: Standard deviation of weights that would start at zero.
WAKING_STD = 0.02
#: The optimizer's state is there from the second step on.
WEIGHED_STEPS = 2


class Trial:
    """A training run that has begun.

    Args:
        recipe: with its data and the teachers' weights on this machine.
        folder: the folder of the files that `dtrain run` keeps beside its checkpoints.

    Raises:
        As `dtrain.train.start.start` does.
    """

    def __init__(self, recipe: Recipe, folder: Path, placement: Placement, report: Report = silent) -> None:
        self.run = start(recipe, folder, Workers(placement), False, report)
        self.device = placement.device
        _wake(self.run.module)
        self._batches: Any = read_ahead(self.run)

    def step(self) -> None:
        """The next optimizer step; a GPU may still be at it when this returns."""
        update(self.run, next(self._batches))

    def whole_step(self) -> None:
        """The next optimizer step, from an idle device to an idle device."""
        self.step()
        synchronise(self.device)

    def read(self) -> None:
        """Read the arrays of a step, as happens beside the step before."""
        read(self.run, self.run.step)

    @property
    def loss(self) -> float:
        """Loss of the last step; NaN if fp16 has skipped all steps."""
        return float(self.run.pending[-1]["loss"]) if self.run.pending else math.nan

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        self._batches.close()


@torch.no_grad()
def _wake(module: nn.Module) -> None:
    """Give small random numbers to weights that start at zero.

    In a transformer with such weights most gradients are zero in the first steps, and a GPU multiplies zeros faster,
    for it draws less power.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and not parameter.any():
            parameter.normal_(std=WAKING_STD)


def check_divides(recipe: Recipe, placement: Placement) -> None:
    """Raises ConfigError if the batch cannot be divided as the recipe says, or if there are several processes."""
    workers = Workers(placement)
    workers.parts(recipe.train.batch_size, recipe.train.accumulate)
    if workers.count > 1:
        raise ConfigError(f"dbench train measures one process, got {workers.count}: start it without a launcher")


def main(recipe: str, folder: str, precision: str, compile: str) -> None:
    """Train WEIGHED_STEPS steps of a recipe that was written as JSON."""
    placement = devices.choose("cpu", precision, compile)
    trial = Trial(config.from_dict(read_json(Path(recipe))), Path(folder), placement)
    for _ in range(WEIGHED_STEPS):
        trial.step()
    trial.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
