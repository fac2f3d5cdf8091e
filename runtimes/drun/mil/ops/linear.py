"""Products of matrices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Arrays, Ints, check_size, operation
from drun.mil.ops.activation import softmax


def _linear_shape(x: Array, weight: Array, bias: Array | None = None) -> Ints:
    return (*x.shape[:-1], weight.shape[0])


@operation(shape=_linear_shape)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    out = x @ weight.T
    if bias is not None:
        out += bias
    return out


def _turned(x: Array, is_transposed: bool) -> Array:
    return np.swapaxes(x, -1, -2) if is_transposed and x.ndim > 1 else x


def _matmul_shape(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Ints:
    left, right = _turned(x, transpose_x).shape, _turned(y, transpose_y).shape
    return (*np.broadcast_shapes(left[:-2], right[:-2]), *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


@operation(shape=_matmul_shape)
def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    return np.asarray(_turned(x, transpose_x) @ _turned(y, transpose_y))


def _terms(values: Arrays, equation: str) -> tuple[str, str, str, dict[str, int]]:
    """The letters of both arrays and of the result, and the side of each letter, that of 1 gives way to another."""
    terms = equation.replace(" ", "").replace("->", ",").split(",")
    if len(values) != 2 or len(terms) != 3 or not all(part.isalpha() and len({*part}) == len(part) for part in terms):
        raise ValueError(f"einsum got '{equation}', expected two terms and a result, such as nchw,nwhu->nchu")
    first, second, out = terms
    if (len(first), len(second)) != (values[0].ndim, values[1].ndim) or not {*out} <= {*first, *second}:
        raise ValueError(f"einsum got '{equation}' for the shapes {values[0].shape} and {values[1].shape}")
    sides = dict(zip(first, values[0].shape, strict=True))
    for one, side in zip(second, values[1].shape, strict=True):
        sides[one] = side if sides.get(one, 1) == 1 else sides[one]
    return first, second, out, sides


def _einsum_shape(values: Arrays, equation: str) -> Ints:
    *_, out, sides = _terms(values, equation)
    return tuple(sides[one] for one in out)


@operation(shape=_einsum_shape)
def einsum(values: Arrays, equation: str) -> Array:
    """The product of two arrays, by an equation such as nchw,nwhu->nchu.

    A letter of both that stays is a row of matrices, one of both that goes is added up; the others are their sides.
    """
    first, second, out, sides = _terms(values, equation)
    rows = [one for one in first if one in second and one in out]
    summed = [one for one in first if one in second and one not in out]
    left = [one for one in first if one not in second]
    right = [one for one in second if one not in first]
    if {*out} != {*rows, *left, *right}:
        raise ValueError(f"einsum got '{equation}' for the shapes {values[0].shape} and {values[1].shape}")
    a = _matrices(values[0], first, rows, left, summed)
    b = _matrices(values[1], second, rows, summed, right)
    found = (a @ b).reshape([sides[one] for one in (*rows, *left, *right)])
    return found.transpose([[*rows, *left, *right].index(one) for one in out])


def _matrices(value: Array, letters: str, rows: list[str], left: list[str], right: list[str]) -> Array:
    """The array as matrices: rows of them, whose sides are the product of those of some letters."""
    ordered = value.transpose([letters.index(one) for one in (*rows, *left, *right)])
    ends = [0, len(rows), len(rows) + len(left), value.ndim]
    parts = [ordered.shape[start:end] for start, end in pairwise(ends)]
    return ordered.reshape(*parts[0], math.prod(parts[1]), math.prod(parts[2]))


def _attended(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Ints:
    rows = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    scores = (*rows, query.shape[-2], key.shape[-2])
    check_size(*scores if attn_mask is None else np.broadcast_shapes(scores, attn_mask.shape))
    return (*np.broadcast_shapes(rows, value.shape[:-2]), query.shape[-2], value.shape[-1])


@operation(since=8, shape=_attended)
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, *, numerics: Numerics
) -> Array:
    """softmax(q k' / sqrt(E)) v (Vaswani et al. 2017, equation 1). A mask of booleans is true where it looks."""
    scores = (query * np.float32(1 / math.sqrt(query.shape[-1]))) @ np.swapaxes(key, -1, -2)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return np.asarray(softmax(numerics.step(scores.astype(np.float32, copy=False)), numerics=numerics) @ value)
