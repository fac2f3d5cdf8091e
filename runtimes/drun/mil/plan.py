"""What a function computes, and which of its values are in memory at which time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from drun.mil.ops import Operator
from drun.mil.types import HELD, TensorType

Array = NDArray[Any]
#: Constants are kept once they are made, the smallest first, up to these many bytes; the others are made at each call.
KEPT_BYTES = 512 << 20
#: The most bytes of values at a time, beside the constants that are kept. A decoder of 1,024 pixels needs half of them.
MAX_LIVE_BYTES = 4 << 30
#: How often a constant may be made of others that are compressed themselves. Palettes of scaled values take 2.
MAX_COMPRESSIONS = 4


class Constant:
    """A constant, which is made when it is first needed.

    Args:
        compressions: how often it, and what it is made of, was compressed.
    """

    def __init__(self, type: TensorType, make: Callable[[], Array], compressions: int = 0) -> None:
        self.type, self.make, self.compressions = type, make, compressions
        self.is_kept = False
        self.value: Array | None = None

    @property
    def num_bytes(self) -> int:
        return num_bytes(self.type)

    def get(self) -> Array:
        if self.value is not None:
            return self.value
        value = self.make()
        if self.is_kept:
            self.value = value
        return value


#: What an argument is: a constant, or the name of a result or an input.
Source = Constant | str


@dataclass
class Instruction:
    """An operation of the program, ready to be computed."""

    name: str  # of its first result
    operator: Operator
    arguments: dict[str, Source | list[Source]]
    outputs: tuple[tuple[str, TensorType], ...]
    context: dict[str, Any]
    last_read: tuple[str, ...] = ()  # values that nobody needs any more

    @property
    def what(self) -> str:
        return f"'{self.name}' ({self.operator.name})"

    @property
    def sources(self) -> list[Source]:
        return [one for found in self.arguments.values() for one in (found if isinstance(found, list) else [found])]

    @property
    def constants(self) -> list[Constant]:
        return [one for one in self.sources if isinstance(one, Constant)]


def num_bytes(type: TensorType) -> int:
    return type.size * HELD[type.dtype].itemsize


def keep(constants: Sequence[Constant]) -> None:
    """Decide which constants stay in memory: as many as `KEPT_BYTES` hold. constants: of the instructions."""
    left = KEPT_BYTES
    for one in sorted({id(one): one for one in constants}.values(), key=lambda one: one.num_bytes):
        left -= one.num_bytes
        one.is_kept = left >= 0


def set_last_readers(instructions: Sequence[Instruction], outputs: Sequence[str]) -> None:
    needed = {*outputs}
    for instruction in reversed(instructions):
        read = {one for one in instruction.sources if isinstance(one, str)} | {name for name, _ in instruction.outputs}
        instruction.last_read = tuple(sorted(read - needed))
        needed |= read


def check_live_bytes(instructions: Sequence[Instruction], inputs: Mapping[str, TensorType]) -> None:
    """Raises ValueError if more than `MAX_LIVE_BYTES` of values, and of constants that pass, are alive at a time."""
    sizes = {name: num_bytes(type) for name, type in inputs.items()}
    live = sum(sizes.values())
    for instruction in instructions:
        sizes |= {name: num_bytes(type) for name, type in instruction.outputs}
        live += sum(sizes[name] for name, _ in instruction.outputs)
        most = live + sum(one.num_bytes for one in instruction.constants if not one.is_kept)
        if most > MAX_LIVE_BYTES:
            raise ValueError(
                f"up to {instruction.what} its values take {most / 2**30:.3g} GiB at a time, "
                f"expected at most {MAX_LIVE_BYTES / 2**30:g}"
            )
        live -= sum(sizes[name] for name in instruction.last_read)
