"""The settings of `dbench throughput`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option, parse_batches
from drun.commands.options import parse_interval
from drun.settings import DEFAULT_BATCH, DEFAULT_STEPS

SUITE = "throughput"


@dataclass(frozen=True)
class ThroughputSettings:
    model: str = argument(
        "Checkpoint, folder of a training run, or recipe from 'dtrain recipes', whose network gets random weights."
    )
    bundle: Path | None = option(None, "Bundle of the checkpoint, whose targets take part (default: PyTorch alone).")
    assignments: tuple[str, ...] = option(
        (),
        "Change a setting of the recipe, such as model.size=S, or state one of a checkpoint; repeatable.",
        flag="--set",
        metavar="KEY=VALUE",
    )
    device: str = option("auto", "Device: auto, cpu, cuda or mps.")
    backends: tuple[str, ...] = option((), "Backend to time; repeatable (default: all that can run).", flag="--backend")
    precisions: tuple[str, ...] = option(
        ("bf16",), "Precision to draw in: fp32, tf32, bf16 or fp16; repeatable.", flag="--precision"
    )
    batches: tuple[int, ...] = option(
        (DEFAULT_BATCH,), "Images drawn at a time; several with commas between.", flag="--batch", parse=parse_batches
    )
    steps: int = option(DEFAULT_STEPS, "Sampling steps, at most the model's T.", least=1)
    cfg: float = option(1.0, "Classifier-free guidance weight; 1 is off.")
    interval: tuple[float, float] | None = option(
        None, "Guided part of the model's time (default: all of it).", metavar="LOW,HIGH", parse=parse_interval
    )
    repeats: int = option(3, "Timed batches of each.", least=1)
    trust: bool = option(False, "Open artifacts that can execute code, such as a .pt2.")
