"""What a bundle was made of, and how far a call is from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from drun.bundle.reading import Bundle
from drun.errors import ConfigError
from drun.files import sha256
from drun.run import parity
from drun.run.golden import GoldenCall
from drun.run.parity import Comparison

if TYPE_CHECKING:
    from dtrain.published import Denoiser

#: (x, t, labels or None) -> output
Denoise = Callable[[Any, float, Any], NDArray[Any]]


def denoiser_of(bundle: Bundle, checkpoint: Path) -> Denoiser:
    """The eager network that a bundle was exported from.

    Raises:
        ConfigError: the checkpoint is not the bundle's.
    """
    known = bundle.manifest.model.checkpoint
    if not checkpoint.is_file():
        raise ConfigError(f"no such checkpoint: '{checkpoint}'")
    if (digest := sha256(checkpoint)) != known["sha256"]:
        raise ConfigError(
            f"'{checkpoint}' is not what '{bundle.name}' was exported from: sha256 got {digest[:12]}…, "
            f"expected {known['sha256'][:12]}… ({known['file']})"
        )
    from dtrain import published

    return published.load(checkpoint, known["weights"], known["settings"])


def farthest(denoise: Denoise, calls: Sequence[GoldenCall], allowed: float) -> Comparison:
    """The golden call with the largest error.

    Args:
        allowed: the largest relative L2 error that passes.
    """
    found = [
        parity.compare(f"t = {call.t:g}", call.out, denoise(call.x, call.t, call.labels), allowed) for call in calls
    ]
    return parity.worst(found)
