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
SLICES = ("slice_by_index", "slice_by_size", "split")
#: Operations that are named for their subnormal numbers: in words, and in a document.
FEW, MANY = 2, 10


@dataclass(frozen=True)
class Largest:
    """The largest number of some operations, and where it was."""

    value: float
    operation: str
    name: str

    def __str__(self) -> str:
        return f"{self.value:.4g}, in {self.operation} '{self.name}'"


@dataclass(frozen=True)
class Subnormal:
    """The share of the numbers of a result that are subnormal in fp16, 0 to 1."""

    share: float
    operation: str
    name: str


NOTHING = Largest(0.0, "", "")


@dataclass
class Health:
    """An observer that collects what the operations of a run, or of several, computed."""

    largest: Largest = NOTHING  # of the results that are declared fp16
    largest_fp32: Largest = NOTHING
    largest_slice: Largest = NOTHING  # in fp16
    not_finite: Largest | None = None  # the first one, before it was rounded

    _counts: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # name -> operation, subnormal ones, of all

    def __call__(self, operation: str, name: str, type: TensorType, value: NDArray[Any], rounded: NDArray[Any]) -> None:
        if not type.is_float or not value.size:
            return
        sizes = np.abs(value)
        found = Largest(float(sizes.max()), operation, name)
        if not np.isfinite(found.value if rounded is value else np.abs(rounded).max()):
            self.not_finite = self.not_finite or found
        elif type.dtype == "fp16":
            self._add(found)
            self._count(found, int(np.count_nonzero((sizes < FP16_TINY) & (sizes > 0))), value.size)
        else:
            self.largest_fp32 = max(self.largest_fp32, found, key=_value)

    def _add(self, found: Largest) -> None:
        self.largest = max(self.largest, found, key=_value)
        if found.operation in SLICES:
            self.largest_slice = max(self.largest_slice, found, key=_value)

    def _count(self, found: Largest, small: int, size: int) -> None:
        _, few, of = self._counts.get(found.name, ("", 0, 0))
        self._counts[found.name] = found.operation, few + small, of + size

    @property
    def subnormal(self) -> list[Subnormal]:
        """The results with some, the largest share first."""
        found = [Subnormal(few / of, operation, name) for name, (operation, few, of) in self._counts.items() if few]
        return sorted(found, key=lambda one: one.share, reverse=True)

    def document(self) -> dict[str, Any]:
        """All of it as plain values, and of the subnormal numbers the worst."""
        return {
            "largest": asdict(self.largest),
            "largest_fp32": asdict(self.largest_fp32),
            "largest_slice": asdict(self.largest_slice),
            "not_finite": self.not_finite and asdict(self.not_finite) | {"value": str(self.not_finite.value)},
            "limits": {"fp16": FP16_MAX, "slice": SLICE_MAX},
            "subnormal": [asdict(one) for one in self.subnormal[:MANY]],
        }

    def describe(self) -> str | None:
        """One sentence; None if it has seen nothing."""
        if self.not_finite is not None:
            where = f"{self.not_finite.operation} '{self.not_finite.name}' gave {self.not_finite.value:.4g}"
            return f"{where}, and fp16 ends at {FP16_MAX:g}" if np.isfinite(self.not_finite.value) else where
        if not self.largest.name:
            fp32 = self.largest_fp32
            return f"the largest number is {fp32}, in fp32; fp16 ends at {FP16_MAX:g}" if fp32.name else None
        said = f"the largest number in fp16, which ends at {FP16_MAX:g}, is {self.largest}"
        if self.largest_slice.name:
            said += f"; that of a slice, of at most {SLICE_MAX:g} on older Neural Engines, is {self.largest_slice}"
        worst = [f"{100 * one.share:.3g} % of {one.operation} '{one.name}'" for one in self.subnormal[:FEW]]
        return f"{said}; subnormal are {' and '.join(worst)}" if worst else said


def _value(found: Largest) -> float:
    return found.value
