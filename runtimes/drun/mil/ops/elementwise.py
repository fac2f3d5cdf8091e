"""Operations on each element by itself, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, broadcast, operation
from drun.mil.special import erf
from drun.mil.types import HELD, TensorType

UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "erf": erf, "exp": np.exp, "exp2": np.exp2, "floor": np.floor,
    "identity": lambda x: x, "logical_not": np.logical_not, "round": np.rint, "sign": np.sign, "sin": np.sin,
    "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_div": np.floor_divide, "mod": np.mod,
    "pow": np.power, "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip


def _register_unary(name: str, function: Callable[[Any], Any]) -> None:
    @operation(name)
    def compute(x: Array) -> Array:
        return function(x)


def _register_binary(name: str, function: Callable[[Any, Any], Any]) -> None:
    @operation(name, shape=broadcast)
    def compute(x: Array, y: Array) -> Array:
        return function(x, y)


for _name, _unary in UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in BINARY.items():
    _register_binary(_name, _binary)


@operation(shape=broadcast)
def real_div(x: Array, y: Array) -> Array:
    if x.dtype.kind != "f" or y.dtype.kind != "f":
        raise ValueError("real_div of integers: what Core ML makes of it is not documented")
    return np.divide(x, y)


@operation()
def rsqrt(x: Array, epsilon: float = 1e-12, *, numerics: Numerics) -> Array:
    return 1 / numerics.step(np.sqrt(numerics.step(x + np.float32(epsilon))))


@operation()
def log(x: Array, epsilon: float = 1e-45, *, numerics: Numerics) -> Array:
    return np.log(numerics.step(x + np.float32(epsilon)))


@operation()
def inverse(x: Array, epsilon: float = 1e-4, *, numerics: Numerics) -> Array:
    return 1 / numerics.step(x + np.float32(epsilon))


@operation()
def clip(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(x, np.float32(alpha), np.float32(beta))


@operation()
def threshold(x: Array, alpha: float) -> Array:
    return np.maximum(x, np.asarray(alpha, x.dtype))


@operation(shape=broadcast)
def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


@operation()
def cast(x: Array, dtype: str, *, outputs: tuple[TensorType, ...]) -> Array:
    """Floats are cut off on their way to integers."""
    if dtype != outputs[0].dtype:
        raise ValueError(f"cast to {dtype}, its result is declared as {outputs[0].dtype}")
    if outputs[0].dtype == "bool":
        return x != 0
    return x.astype(HELD[dtype])
