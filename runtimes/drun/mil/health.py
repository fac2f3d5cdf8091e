"""How near a program comes to the limits of fp16: what is not finite, what is large, what is subnormal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.mil.numerics import FP16_MAX, FP16_TINY
from drun.mil.types import TensorType

#: On older Neural Engines a slice of the last axis that does not begin at 0 overflows above this.
SLICE_MAX = 4094.0


@dataclass(frozen=True)
class Largest:
    """The largest number of a kind of operations, and where it was."""

    value: float
    operation: str
    name: str


@dataclass
class Health:
    """An observer that collects what the operations of a run, or of several, computed."""

    largest: Largest = Largest(0.0, "", "")
    largest_slice: Largest = Largest(0.0, "", "")
    not_finite: Largest | None = None  # the first one
    subnormal: dict[str, float] = field(default_factory=dict)  # operation -> share of its results, if any

    _counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, operation: str, name: str, type: TensorType, value: NDArray[Any]) -> None:
        if not type.is_float or not value.size:
            return
        sizes = np.abs(value)
        top = float(sizes.max())
        if not np.isfinite(top):
            self.not_finite = self.not_finite or Largest(top, operation, name)
            return
        if top > self.largest.value:
            self.largest = Largest(top, operation, name)
        if operation in ("slice_by_index", "slice_by_size", "split") and top > self.largest_slice.value:
            self.largest_slice = Largest(top, operation, name)
        if type.dtype == "fp16":
            self._count(operation, int(np.count_nonzero((sizes < FP16_TINY) & (sizes > 0))), value.size)

    def _count(self, operation: str, small: int, size: int) -> None:
        few, of = self._counts.get(operation, (0, 0))
        self._counts[operation] = few + small, of + size
        self.subnormal[operation] = (few + small) / (of + size)

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "largest": asdict(self.largest),
            "largest_slice": asdict(self.largest_slice),
            "not_finite": self.not_finite and asdict(self.not_finite) | {"value": str(self.not_finite.value)},
            "limits": {"fp16": FP16_MAX, "slice": SLICE_MAX},
            "subnormal_shares": dict(self.subnormal),
        }

    def describe(self) -> str | None:
        """One sentence; None if it has seen nothing."""
        if self.not_finite is not None:
            return f"{self.not_finite.operation} '{self.not_finite.name}' gave {self.not_finite.value}"
        top = self.largest
        if not top.name:
            return None
        said = f"the largest number is {top.value:.4g} of {FP16_MAX:g}, in {top.operation} '{top.name}'"
        if self.largest_slice.name:
            said += f", that of a slice {self.largest_slice.value:.4g} of {SLICE_MAX:g}"
        worst = max(self.subnormal, key=lambda one: self.subnormal[one], default=None)
        if worst is not None and self.subnormal[worst]:
            said += f"; {100 * self.subnormal[worst]:.2g} % of what {worst} gives is subnormal in fp16"
        return said
