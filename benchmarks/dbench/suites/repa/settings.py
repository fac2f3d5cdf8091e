"""The settings of `dbench repa`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import option
from drun.errors import ConfigError


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` -> (0, 1, 2). Raises ConfigError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds got '{text}', expected whole numbers with commas between, such as 0,1,2")
    return tuple(map(int, parts))


@dataclass(frozen=True)
class RepaSettings:
    steps: int = option(2000, "Training steps of each run, a multiple of --every.", least=1)
    #: of weights, noise and data order
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "Seeds, separated by commas; each has a plain and an aligned run.", parse=parse_seeds
    )
    every: int = option(250, "Training steps between evaluated checkpoints.", least=1)
    samples: int = option(512, "Images drawn with each checkpoint.", least=2)
    sampling_steps: int = option(25, "Euler steps of an image; a step is one network call.", least=1)
    assignments: tuple[str, ...] = option(
        (),
        "Change both runs, such as by optimizer.learning_rate=3e-4.",
        flag="--set",
        metavar="KEY=VALUE",
    )
    repa_assignments: tuple[str, ...] = option(
        (),
        "Change the aligned run, such as by objective.weight=1.0.",
        flag="--repa-set",
        metavar="KEY=VALUE",
    )
    runs: Path = option(Path("out/repa"), "Folder for the runs; a second call continues them.")

    @property
    def checkpoints(self) -> list[int]:
        """The steps at which both arms are evaluated."""
        return list(range(self.every, self.steps + 1, self.every))
