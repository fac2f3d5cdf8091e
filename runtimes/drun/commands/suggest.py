"""What a user should do next: the command that draws images from a bundle, and a warning about what is not proven."""

from __future__ import annotations

import shlex
from pathlib import Path

from drun.bundle.artifact import Artifact
from drun.bundle.card import Card
from drun.bundle.reading import Bundle
from drun.console import warn
from drun.diffusion.process.flow import FlowProcess

#: Network calls and guidance of the papers' best results, by whether the network is REPA's.
NUM_STEPS = 250
GUIDANCE = {True: "--cfg 1.8 --interval 0,0.7", False: "--cfg 1.5"}


def sample_command(
    card: Card, bundle: Path, backend: str = "ort", precision: str = "fp32", artifact: str | None = None
) -> str:
    """The command that draws images from the bundle of a network, with the guidance of its paper.

    Args:
        precision: of the graph to draw with. Without the option `drun` takes the widest one.
        artifact: its identity, where the precision does not tell it.
    """
    process = card.process
    steps = process.most_steps(NUM_STEPS)
    is_repa = isinstance(process, FlowProcess) and process.time_convention == "repa"
    guided = f" {GUIDANCE[is_repa]}" if card.can_guide else ""
    choice = f" --artifact {artifact}" if artifact else "" if precision == "fp32" else f" --precision {precision}"
    return f"drun --backend {backend}{choice} --steps {steps}{guided} --bundle {shlex.quote(str(bundle))}"


def warn_of_unproven(bundle: Bundle, artifact: Artifact | None, then: str = "drun check proves it here") -> None:
    """Warn if an artifact was not proven where it was made, or failed and was written nevertheless."""
    if artifact is not None and artifact.parity is None:
        warn(f"{artifact.id} of '{bundle.name}' was not proven where it was made: {then}")
    if artifact is not None:
        warn_of_drift(bundle, artifact)


def warn_of_drift(bundle: Bundle, artifact: Artifact) -> None:
    """Warn if an artifact failed its proof, and was written by --allow-drift."""
    if artifact.parity is not None and not artifact.parity["passed"]:
        warn(f"{artifact.id} of '{bundle.name}' is further from eager PyTorch than is allowed: see drun info")
