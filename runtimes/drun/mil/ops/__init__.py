"""The operations of ML Programs, one family a file.

An operation is a function with the name and the parameters of its definition in coremltools; its defaults are the
definition's, which a program does not repeat. Floats come and go as float32. What a function wants to know beyond its
parameters it takes as keywords: `numerics`, the numbers to compute in, and `outputs`, the types that are declared.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.mil.types import MAX_ELEMENTS

Array = NDArray[Any]
Arrays = Sequence[Array]
Ints = tuple[int, ...]
Bools = tuple[bool, ...]

#: What an operation takes beside its parameters.
CONTEXT = ("numerics", "outputs")
#: The opset of iOS 15, the first with ML Programs; each later one inherits its operations.
FIRST_OPSET = 5


#: the arguments of an operation -> the shape of its first result
Shape = Callable[..., Sequence[int]]


@dataclass(frozen=True)
class Operator:
    """An operation as it is defined from an opset on."""

    name: str
    since: int
    compute: Callable[..., Any]
    shape: Shape | None = None  # of its first result, of operations that make more elements than they are given

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return _parameters(self.compute)


_OPERATORS: dict[str, list[Operator]] = {}


def operation(
    name: str | None = None, since: int = FIRST_OPSET, shape: Shape | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as an operation.

    Args:
        name: where it is not the function's own.
        shape: of its result, by the same arguments, if it may have more elements than them: it is compared with the
            declared one before anything is computed. Without it the function itself calls `check_size`.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        own = name or function.__name__
        _OPERATORS.setdefault(own, []).append(Operator(own, since, function, shape))
        return function

    return register


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def find(name: str, opset: int) -> Operator:
    """An operation as an opset defines it. Raises ValueError if there is none."""
    _load()
    able = [one for one in _OPERATORS.get(name, ()) if one.since <= opset]
    if not able:
        raise ValueError(f"the operation '{name}' is not known in opset CoreML{opset}")
    return max(able, key=lambda one: one.since)


def names() -> list[str]:
    """All operations, sorted."""
    _load()
    return sorted(_OPERATORS)


@cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


# ---- parameters -----------------------------------------------------------------------------------------


def converted(value: Any, parameter: inspect.Parameter) -> Any:
    """A parameter's value as its annotation says. value: an array, or a list of arrays."""
    kind = str(parameter.annotation).removesuffix(" | None")
    if (kind == "Arrays") != isinstance(value, list):
        raise ValueError(f"'{parameter.name}' got {'several values' if isinstance(value, list) else 'one value'}")
    return _CONVERTERS[kind](value, parameter.name)


def _scalar(value: Array, name: str, kinds: str) -> Any:
    if value.size != 1 or value.dtype.kind not in kinds:
        raise ValueError(f"'{name}' got {value.dtype} {value.shape}, expected one value")
    return value.reshape(()).item()


def _vector(value: Array, name: str, kinds: str) -> Any:
    if value.ndim > 1 or value.dtype.kind not in kinds:
        raise ValueError(f"'{name}' got {value.dtype} {value.shape}, expected a list of numbers")
    return tuple(value.reshape(-1).tolist())


_CONVERTERS: Mapping[str, Callable[[Any, str], Any]] = {
    "Array": lambda value, name: value,
    "Arrays": lambda value, name: value,
    "int": lambda value, name: _scalar(value, name, "iu"),
    "float": lambda value, name: float(_scalar(value, name, "fiu")),
    "bool": lambda value, name: _scalar(value, name, "b"),
    "str": lambda value, name: _scalar(value, name, "U"),
    "Ints": lambda value, name: _vector(value, name, "iu"),
    "Bools": lambda value, name: _vector(value, name, "b"),
}


def axis_of(axis: int, rank: int) -> int:
    """An axis from the front. Raises ValueError if there is none."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis got {axis}, expected one of {rank}")
    return axis % rank


def axes_of(axes: Ints | None, rank: int) -> Ints:
    """Axes from the front; None: all."""
    return tuple(range(rank)) if axes is None else tuple(axis_of(axis, rank) for axis in axes)


def broadcast(**arrays: Array) -> Ints:
    """The shape of what is computed of each element by itself."""
    return np.broadcast_shapes(*(one.shape for one in arrays.values()))


def per_place(values: Array, x: Array, axis: int) -> Array:
    """A value for each place of an axis, or one for all, in a form that is broadcast over x. Raises ValueError."""
    if values.size not in (1, x.shape[axis_of(axis, x.ndim)]):
        raise ValueError(f"it got {values.size} values for axis {axis} of {x.shape}")
    form = [1] * x.ndim
    form[axis] = -1
    return values.reshape(form)


def check_indices(indices: Array, size: int, may_be_negative: bool) -> Array:
    """The indices of an axis. Raises ValueError for one outside of it. may_be_negative: counted from the end."""
    low = -size if may_be_negative else 0
    if indices.size and not (indices.min() >= low and indices.max() < size):
        raise ValueError(f"an index from {indices.min()} to {indices.max()} is outside of {low}..{size - 1}")
    return indices


def check_size(*sides: float) -> None:
    """Raises ValueError for an array of more elements than any tensor has, before it is made."""
    if math.prod(sides) > MAX_ELEMENTS:
        raise ValueError(f"it would make an array of more than {MAX_ELEMENTS:,} elements")


def float32(x: Array) -> Array:
    return np.asarray(x, np.float32)
