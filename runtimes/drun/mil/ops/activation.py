"""Activations."""

from __future__ import annotations

import math

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, axis_of, operation, per_place
from drun.mil.special import erf


@operation()
def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, np.float32(1), small) / (1 + small)


@operation()
def silu(x: Array, *, numerics: Numerics) -> Array:
    return x * numerics.step(sigmoid(x))


@operation()
def gelu(x: Array, mode: str = "EXACT", *, numerics: Numerics) -> Array:
    """Hendrycks & Gimpel 2016."""
    step = numerics.step
    if mode == "EXACT":
        return x * step(np.float32(0.5) + np.float32(0.5) * step(erf(step(x * np.float32(math.sqrt(0.5))))))
    if mode == "TANH_APPROXIMATION":
        cubes = step(step(step(x * x) * x) * np.float32(0.044715))
        inner = step(np.float32(math.sqrt(2 / math.pi)) * step(x + cubes))
        return step(np.float32(0.5) * x) * step(1 + step(np.tanh(inner)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * step(sigmoid(step(np.float32(1.702) * x)))
    raise ValueError(f"gelu got the mode '{mode}', expected EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION")


@operation()
def relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


@operation()
def relu6(x: Array) -> Array:
    return np.clip(x, np.float32(0), np.float32(6))


@operation()
def leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, np.float32(alpha) * x)


@operation()
def elu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, np.float32(alpha) * np.expm1(np.minimum(x, np.float32(0))))


@operation()
def prelu(x: Array, alpha: Array) -> Array:
    return np.where(x >= 0, x, per_place(alpha, x, 1) * x)


@operation()
def clamped_relu(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.where(x >= 0, x, np.float32(alpha) * x), np.float32(beta))


@operation()
def thresholded_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= np.float32(alpha), x, np.float32(0))


@operation()
def linear_activation(x: Array, alpha: float, beta: float) -> Array:
    return np.float32(alpha) * x + np.float32(beta)


@operation()
def sigmoid_hard(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1))


@operation()
def scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    return np.float32(alpha) * np.tanh(np.float32(beta) * x)


@operation()
def softplus(x: Array) -> Array:
    return np.logaddexp(x, np.float32(0))


@operation()
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return per_place(alpha, x, 1) * np.logaddexp(per_place(beta, x, 1) * x, np.float32(0))


@operation()
def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


@operation()
def softmax(x: Array, axis: int = -1, *, numerics: Numerics) -> Array:
    along = axis_of(axis, x.ndim)
    powers = numerics.step(x - x.max(axis=along, keepdims=True))
    np.exp(powers, out=powers)
    powers = numerics.step(powers)
    powers /= numerics.sum(powers, along)
    return powers
