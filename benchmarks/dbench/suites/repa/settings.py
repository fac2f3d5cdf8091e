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
    plain: str = option("digits-sit", "Recipe of the plain runs: a name from 'dtrain recipes', or a .toml file.")
    aligned: str = option("digits-sit-repa", "Recipe of the aligned runs, which differs in its objective alone.")
    data: str = option("", "Images, as for dtrain run, where the recipes name none.")
    teacher: str = option(
        "",
        "Teacher: a recipe, which is trained first, a run's folder, or a published one as for objective.teachers "
        "(default: those of the aligned recipe).",
    )
    features: str = option(
        "", "Network whose features the distance is measured in, named as a teacher is (default: pixels alone)."
    )
    steps: int = option(2000, "Training steps of each run, a multiple of --every.", least=1)
    #: of weights, noise and data order
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "Seeds, separated by commas; each has a plain run and two aligned ones.", parse=parse_seeds
    )
    every: int = option(250, "Training steps between evaluated checkpoints.", least=1)
    samples: int = option(512, "Images drawn with each checkpoint.", least=2)
    sampling_steps: int = option(25, "Euler steps of an image; a step is one network call.", least=1)
    assignments: tuple[str, ...] = option(
        (),
        "Change all runs, such as by optimizer.learning_rate=3e-4.",
        flag="--set",
        metavar="KEY=VALUE",
    )
    repa_assignments: tuple[str, ...] = option(
        (),
        "Change the aligned runs, such as by objective.weight=1.0.",
        flag="--repa-set",
        metavar="KEY=VALUE",
    )
    tries: tuple[str, ...] = option(
        (),
        "Align once more, with these changes, such as 'objective.projector=mlp objective.weight=0.5': an arm each.",
        flag="--try",
        metavar="CHANGES",
    )
    runs: Path = option(Path("out/repa"), "Folder for the runs; a second call continues them.")

    @property
    def checkpoints(self) -> list[int]:
        """The steps at which all arms are evaluated."""
        return list(range(self.every, self.steps + 1, self.every))
