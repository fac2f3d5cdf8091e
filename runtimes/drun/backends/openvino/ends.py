"""The ends of time, at which a quantised network is computed in float32.

Near noise an error grows most on its way to an image; near data a network that predicts noise is ill-conditioned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends.openvino.compiler import Compiler
from drun.backends.openvino.times import TIME
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.errors import BundleError
from drun.settings import RuntimeOptions

#: The key of an artifact's `target` that holds the intervals of time, both ends of each included.
FP32_TIMES = "fp32_times"

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
        BundleError: they are no intervals of time, or the bundle lacks the float32 graph. And as `Compiler`.
    """
    if FP32_TIMES not in artifact.target:
        return None
    intervals = _intervals(artifact)
    sources = [one for one in bundle.manifest.artifacts if one.files[0].sha256 == artifact.derived_from]
    if not sources or sources[0].precision != "fp32" or TIME not in (names := [tensor.name for tensor in artifact.io]):
        raise BundleError(
            f"'{bundle.path}' lacks the fp32 graph that {artifact.id} is computed by at the ends of time: "
            f"type dexport {artifact.format} {bundle.path} --precision {artifact.precision}"
        )
    return Ends(intervals, names.index(TIME), Compiler(bundle, sources[0], "fp32", options))


def _intervals(artifact: Artifact) -> tuple[Interval, ...]:
    stated = artifact.target[FP32_TIMES]
    if not isinstance(stated, list | tuple) or not all(map(_is_interval, stated)):
        raise BundleError(f"{artifact.id}: {FP32_TIMES} got {stated!r:.80}, expected pairs of times: export again")
    return tuple((float(low), float(high)) for low, high in stated)


def _is_interval(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(type(one) in (int, float) and math.isfinite(one) for one in value)
