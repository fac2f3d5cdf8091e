"""Products of matrices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Arrays, operation
from drun.mil.ops.activation import softmax


@operation()
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    out = x @ weight.T
    if bias is not None:
        out += bias
    return out


@operation()
def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    left = np.swapaxes(x, -1, -2) if transpose_x and x.ndim > 1 else x
    right = np.swapaxes(y, -1, -2) if transpose_y and y.ndim > 1 else y
    return np.asarray(left @ right)


@operation()
def einsum(values: Arrays, equation: str) -> Array:
    """The product of two arrays, by an equation such as nchw,nwhu->nchu.

    A letter of both that stays is a row of matrices, one of both that goes is added up; the others are their sides.
    """
    terms = equation.replace(" ", "").replace("->", ",").split(",")
    if len(values) != 2 or len(terms) != 3 or not all(part.isalpha() and len({*part}) == len(part) for part in terms):
        raise ValueError(f"einsum got '{equation}', expected two terms and a result, such as nchw,nwhu->nchu")
    first, second, out = terms
    rows = [one for one in first if one in second and one in out]
    summed = [one for one in first if one in second and one not in out]
    left = [one for one in first if one not in second]
    right = [one for one in second if one not in first]
    if {*out} != {*rows, *left, *right} or (len(first), len(second)) != (values[0].ndim, values[1].ndim):
        raise ValueError(f"einsum got '{equation}' for the shapes {values[0].shape} and {values[1].shape}")
    a = _matrices(values[0], first, rows, left, summed)
    b = _matrices(values[1], second, rows, summed, right)
    sides = dict(zip(first, values[0].shape, strict=True)) | dict(zip(second, values[1].shape, strict=True))
    sides |= {one: max(_side(values[0], first, one), _side(values[1], second, one)) for one in rows}
    found = (a @ b).reshape([sides[one] for one in (*rows, *left, *right)])
    return found.transpose([[*rows, *left, *right].index(one) for one in out])


def _side(value: Array, letters: str, letter: str) -> int:
    return int(value.shape[letters.index(letter)])


def _matrices(value: Array, letters: str, rows: list[str], left: list[str], right: list[str]) -> Array:
    """The array as matrices: rows of them, whose sides are the product of those of some letters."""
    ordered = value.transpose([letters.index(one) for one in (*rows, *left, *right)])
    ends = [0, len(rows), len(rows) + len(left), value.ndim]
    parts = [ordered.shape[start:end] for start, end in pairwise(ends)]
    return ordered.reshape(*parts[0], math.prod(parts[1]), math.prod(parts[2]))


@operation(since=8)
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, *, numerics: Numerics
) -> Array:
    """softmax(q k' / sqrt(E)) v (Vaswani et al. 2017, equation 1). A mask of booleans is true where it looks."""
    scores = (query * np.float32(1 / math.sqrt(query.shape[-1]))) @ np.swapaxes(key, -1, -2)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return np.asarray(softmax(numerics.step(scores.astype(np.float32, copy=False)), numerics=numerics) @ value)
