"""The settings of `dbench latency`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option
from drun.settings import DEFAULT_OPTIONS

SUITE = "latency"


@dataclass(frozen=True)
class LatencySettings:
    bundle: Path = argument("Bundle folder.")
    checkpoint: Path | None = option(None, "Checkpoint of the bundle, to time eager PyTorch, too.")
    backends: tuple[str, ...] = option((), "Backend to time; repeatable (default: all that can run).", flag="--backend")
    precisions: tuple[str, ...] = option(
        (), "Arithmetic to time, such as bf16; repeatable (default: all).", flag="--precision"
    )
    artifacts: tuple[str, ...] = option(
        (), "Artifact to time, such as onnx-fp32; repeatable (default: all).", flag="--artifact"
    )
    device: str | None = option(None, "Device: cpu, cuda, webgpu or mps (default: each backend's first that is here).")
    hint: str | None = option(
        DEFAULT_OPTIONS.hint, "latency or throughput; targets without this hint are left out (default: halves)."
    )
    compile: bool = option(False, "Compile by PyTorch; targets of other backends are left out.")
    trust: bool = option(False, "Open artifacts that can execute code, such as a .pt2.")
    batch: int = option(1, "Images in a call.", least=1)
    steps: int = option(50, "Sampling steps of the loop, at most the model's T.", least=1)
    repeats: int = option(20, "Number of timed calls and of timed loops; cold starts are a quarter as many.", least=1)
    threads: int = option(0, "Processor threads of every candidate; 0: one for each core.", least=0)
