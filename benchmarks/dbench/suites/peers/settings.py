"""The settings of `dbench peers`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import LEAST_PAIRS, argument, option, parse_batches

SUITE = "peers"


@dataclass(frozen=True)
class PeersSettings:
    model: str = argument(
        "Checkpoint, folder of a training run, or recipe from 'dtrain recipes', whose network gets random weights."
    )
    bundle: Path | None = option(
        None, "Bundle of the checkpoint; exported to this folder if there is none (default: to a temporary one)."
    )
    assignments: tuple[str, ...] = option(
        (),
        "Change a setting of the recipe, such as model.size=S, or state one of a checkpoint; repeatable.",
        flag="--set",
        metavar="KEY=VALUE",
    )
    targets: tuple[str, ...] = option(
        (), "Target to export to; repeatable (default: all, or what the bundle holds).", flag="--target"
    )
    peers: tuple[str, ...] = option((), "Library to compare with; repeatable (default: all).", flag="--peer")
    backends: tuple[str, ...] = option((), "Backend to time; repeatable (default: all that can run).", flag="--backend")
    artifacts: tuple[str, ...] = option(
        (), "Artifact to time, such as onnx-fp32; repeatable (default: all).", flag="--artifact"
    )
    precisions: tuple[str, ...] = option(
        (), "Precision to compare in, such as bf16; repeatable (default: all).", flag="--precision"
    )
    batches: tuple[int, ...] = option(
        (1, 8), "Images in a call; several with commas between.", flag="--batch", parse=parse_batches
    )
    steps: int = option(250, "Guided steps of the images drawn end to end; 0: none are drawn.", least=0)
    repeats: int = option(
        20, "Timed calls of each; images, at least 6, and cold starts are a quarter as many.", least=LEAST_PAIRS
    )
    threads: int = option(0, "Processor threads of everyone; 0: one for each core.", least=0)
    #: states that int8 is calibrated on, the default of nncf
    states: int = 300

    @property
    def few(self) -> int:
        """Repeats of whole images."""
        return max(LEAST_PAIRS, self.repeats // 4)

    @property
    def starts(self) -> int:
        """Cold starts of each backend, of which no interval is stated."""
        return max(3, self.repeats // 4)
