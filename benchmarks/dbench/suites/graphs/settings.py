"""The settings of `dbench graphs`."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core.options import LEAST_PAIRS, argument, option, parse_batches

SUITE = "graphs"


@dataclass(frozen=True)
class GraphsSettings:
    model: str = argument(
        "Checkpoint, folder of a training run, or recipe from 'dtrain recipes', whose network gets random weights."
    )
    batches: tuple[int, ...] = option(
        (1, 8), "Images in a call; several with commas between.", flag="--batch", parse=parse_batches
    )
    candidates: tuple[str, ...] = option(
        (), "Candidate to measure beside the default; repeatable (default: all).", flag="--candidate"
    )
    repeats: int = option(20, "Timed calls of each candidate.", least=LEAST_PAIRS)
    threads: int = option(0, "Processor threads; 0: one for each core.", least=0)
    assignments: tuple[str, ...] = option(
        (), "Change a setting, such as image_size=64; of a recipe data.image_size=64; repeatable.",
        flag="--set", metavar="KEY=VALUE",
    )  # fmt: skip
