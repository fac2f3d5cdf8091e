"""The commands that follow a checkpoint, as a user types them: whoever suggests one asks here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from drun.bundle.average import of_initial_weights
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from dtrain.published.denoiser import Denoiser

#: Network calls and guidance of the papers' best results, by whether the network is REPA's.
NUM_STEPS = 250
GUIDANCE = {True: "--cfg 1.8 --interval 0,0.7", False: "--cfg 1.5"}


def export_command(checkpoint: Path, settings: Mapping[str, str] | None = None, weights: str = "ema") -> str:
    """Exports a checkpoint.

    Args:
        settings: what the file does not say, as of `published.load`.
        weights: `ema` or `online`.
    """
    assignments = (word for pair in (settings or {}).items() for word in ("--set", "=".join(pair)))
    chosen = () if weights == "ema" else ("--weights", weights)
    return shlex.join(["dexport", "onnx", str(checkpoint), *assignments, *chosen])


def weights_of(initial_share: float | None, step: int) -> str:
    """The weights to export: online ones where the average still holds initial weights, 0 to 1, at a training step."""
    return "online" if of_initial_weights(initial_share, step) else "ema"


def bundle_of(checkpoint: Path, weights: str = "ema") -> Path:
    """Where `dexport` puts the bundle of a checkpoint unless told otherwise; the online weights beside the averaged."""
    return Path("bundles", checkpoint.stem if weights == "ema" else f"{checkpoint.stem}-{weights}")


def sample_command(denoiser: Denoiser, bundle: Path) -> str:
    """Draws images from the bundle of a network, with the guidance of its paper."""
    process = denoiser.card.process
    steps = min(NUM_STEPS, process.num_timesteps) if isinstance(process, DiscreteProcess) else NUM_STEPS
    is_repa = isinstance(process, FlowProcess) and process.time_convention == "repa"
    guided = f" {GUIDANCE[is_repa]}" if denoiser.card.can_guide else ""
    return f"drun --backend ort --steps {steps}{guided} --bundle {shlex.quote(str(bundle))}"
