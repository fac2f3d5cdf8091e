"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Ints, axes_of, axis_of, operation

PLAIN: dict[str, Callable[..., Any]] = {"max": np.max, "min": np.min}
#: name -> what is done before the sum, and what after it
SUMS: dict[str, tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]] = {
    "sum": (None, None), "l1_norm": (np.abs, None), "l2_norm": (np.square, np.sqrt), "sum_square": (np.square, None),
    "log_sum": (None, np.log),
}  # fmt: skip


def _register_plain(name: str, function: Callable[..., Any]) -> None:
    @operation(f"reduce_{name}")
    def compute(x: Array, axes: Ints | None = None, keep_dims: bool = False) -> Array:
        return np.asarray(function(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))


def _register_sum(name: str, before: Callable[[Any], Any] | None, after: Callable[[Any], Any] | None) -> None:
    @operation(f"reduce_{name}")
    def compute(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, numerics: Numerics) -> Array:
        along = axes_of(axes, x.ndim)
        if x.dtype.kind != "f":
            total = np.asarray((x if before is None else before(x)).sum(axis=along, keepdims=keep_dims))
        else:
            total = numerics.sum(x if before is None else numerics.step(before(x)), along, keep_dims)
        return total if after is None else after(total)


for _name, _function in PLAIN.items():
    _register_plain(_name, _function)
for _name, (_before, _after) in SUMS.items():
    _register_sum(_name, _before, _after)


@operation()
def reduce_prod(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, numerics: Numerics) -> Array:
    along = axes_of(axes, x.ndim)
    if x.dtype.kind != "f":
        return np.asarray(np.prod(x, axis=along, keepdims=keep_dims))
    return numerics.prod(x, along, keep_dims)


@operation()
def reduce_mean(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, numerics: Numerics) -> Array:
    if x.dtype.kind != "f":
        raise ValueError("reduce_mean of integers: what Core ML makes of it is not documented")
    return numerics.mean(x, axes_of(axes, x.ndim), keep_dims)


@operation()
def reduce_log_sum_exp(x: Array, axes: Ints | None = None, keep_dims: bool = False, *, numerics: Numerics) -> Array:
    along = axes_of(axes, x.ndim)
    largest = x.max(axis=along, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, np.float32(0))  # infinity less infinity is no number
    total = numerics.sum(numerics.step(np.exp(x - largest)), along)
    out = np.log(total) + largest
    return out if keep_dims else np.squeeze(out, along)


def _register_arg(name: str, function: Callable[..., Any]) -> None:
    def indices(x: Array, axis: int, keep_dims: bool) -> Array:
        return np.asarray(function(x, axis=axis_of(axis, x.ndim), keepdims=keep_dims))

    @operation(name)
    def compute(x: Array, axis: int = -1, keep_dims: bool = False) -> Array:
        return indices(x, axis, keep_dims)

    @operation(name, since=7)
    def compute_typed(x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Array:
        return indices(x, axis, keep_dims).astype(output_dtype)


for _name, _function in {"reduce_argmax": np.argmax, "reduce_argmin": np.argmin}.items():
    _register_arg(_name, _function)
