"""The ends of time, at which a quantised network is computed in float32.

Near noise an error grows most on its way to an image; near data a network that predicts noise is ill-conditioned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends.openvino.compiler import Compiler
from drun.backends.openvino.graph import SUFFIXES
from drun.bundle.artifact import FP32_TIMES, TIME, Artifact
from drun.bundle.reading import Bundle
from drun.errors import BundleError, door
from drun.settings import RuntimeOptions
from drun.typed import typed

#: (lowest, highest) time
Interval = tuple[float, float]


@dataclass(frozen=True)
class Ends:
    """Times at which the float32 graph is computed that the quantised one was made of."""

    intervals: tuple[Interval, ...]
    time: int  # which of the inputs holds the times
    compiler: Compiler

    def hold(self, t: NDArray[Any]) -> bool:
        """Whether any of the times (N,) is one of these."""
        return any(bool(np.any((t >= low) & (t <= high))) for low, high in self.intervals)

    def describe(self) -> str:
        return "fp32 at t = " + " and ".join(f"{low:g} to {high:g}" for low, high in self.intervals)


def ends_of(bundle: Bundle, artifact: Artifact, options: RuntimeOptions) -> Ends | None:
    """The ends that an artifact's `target` states; None if it states none.

    Raises:
        BundleError: they are not intervals of time, or the bundle lacks the float32 graph. And as `Compiler`.
    """
    if FP32_TIMES not in artifact.target:
        return None
    intervals = _intervals(artifact)
    sources = [one for one in bundle.manifest.artifacts if _is_source(one, artifact)]
    if not sources or TIME not in (names := [tensor.name for tensor in artifact.io]):
        raise BundleError(
            f"'{bundle.path}' lacks the fp32 graph that {artifact.id} is computed by at the ends of time: "
            f"type dexport {artifact.format} {bundle.path} --precision {artifact.precision}"
        )
    return Ends(intervals, names.index(TIME), Compiler(bundle, sources[0], "fp32", options))


def _is_source(one: Artifact, artifact: Artifact) -> bool:
    is_readable = one.format in SUFFIXES and one.precision == "fp32" and one.conditioning is None
    return is_readable and one.files[0].sha256 == artifact.derived_from


def _intervals(artifact: Artifact) -> tuple[Interval, ...]:
    with door(f"the artifact {artifact.id} is wrong", BundleError, "export again"):
        found: tuple[Interval, ...] = typed(tuple[Interval, ...], _listed(artifact.target[FP32_TIMES]), FP32_TIMES)
        if not found:
            raise ValueError(f"{FP32_TIMES} got none, expected one interval at least")
        for low, high in found:
            if low > high or high < 0:
                raise ValueError(f"{FP32_TIMES} got {low:g} to {high:g}, expected times, the smaller first")
    return found


def _listed(stated: Any) -> Any:
    """As the manifest's file holds it; an artifact that was just made may hold tuples."""
    is_sequence = isinstance(stated, list | tuple)
    return [list(one) if isinstance(one, tuple) else one for one in stated] if is_sequence else stated
