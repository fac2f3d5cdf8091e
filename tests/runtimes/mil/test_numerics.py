"""Rounding to fp16 is that of IEEE 754, which numpy's own casts do, too; and sums in each mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drun.mil.numerics import FP16_MAX, Numerics, half


def cast(x: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def every_half() -> NDArray[np.float32]:
    """All numbers of fp16."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def between() -> NDArray[np.float32]:
    """Halfway between neighbours, where ties go to even, and right beside; and beyond both ends of the range."""
    numbers = np.sort(every_half()[np.isfinite(every_half())])
    middle = (numbers[1:] + numbers[:-1]) / 2
    beyond = np.float32([65519.9, 65520, 65536, 1e30, 2.0**-25, 2.0**-25 * 1.001, 1e-30, 0])
    beside = [np.nextafter(middle, np.float32(sign * np.inf)) for sign in (-1, 1)]
    return np.concatenate([middle, *beside, beyond, -beyond]).astype(np.float32)


@pytest.mark.parametrize("x", [every_half(), between()], ids=["exact", "between"])
def test_each_number_is_the_nearest_one(x: NDArray[np.float32]) -> None:
    found = half(x)
    np.testing.assert_array_equal(found, cast(x))
    is_number = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(found)[is_number], np.signbit(x)[is_number])


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 70_000)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 1e3
    found = half(np.asarray(x))
    assert (found.shape, found.dtype) == (shape, np.float32)
    np.testing.assert_array_equal(found, cast(np.asarray(x)))


def test_any_order_of_the_axes() -> None:
    x = np.random.default_rng(0).standard_normal((7, 5, 3)).astype(np.float32).transpose(2, 0, 1)[:, ::2]
    np.testing.assert_array_equal(half(x), cast(x))
    np.testing.assert_array_equal(half(np.broadcast_to(x[:, :1], x.shape)), cast(np.broadcast_to(x[:, :1], x.shape)))


def test_what_is_not_finite_hides_nothing_beside_it() -> None:
    x = np.float32([np.nan, 7e4, -7e4, 1.0, np.inf, -np.inf])
    np.testing.assert_array_equal(half(x), np.float32([np.nan, np.inf, -np.inf, 1.0, np.inf, -np.inf]))


def test_sums_are_rounded_where_each_step_is() -> None:
    x = np.full((4096, 2), 1.0, np.float32)
    assert Numerics(is_half=False).sum(x, 0).max() == 4096
    assert Numerics(is_half=True).sum(x, 0).max() == 2048  # to which fp16 cannot add 1
    assert Numerics(is_half=True).sum(np.full(4, 3e4, np.float32), 0) == np.inf
    assert Numerics(is_half=False).mean(np.full(4, 3e4, np.float32), 0) == pytest.approx(3e4)
    assert Numerics(is_half=True).prod(np.full(4, 3e2, np.float32), 0) == np.inf
    assert Numerics(is_half=True).step(np.float32(FP16_MAX * 2)) == np.inf


@pytest.mark.parametrize("axes", [0, (1,), (0, 2), (1, 2), (0, 1, 2)])
def test_sums_in_fp16_are_the_same_in_any_layout(axes: tuple[int, ...] | int) -> None:
    """One element after the other, each sum rounded; numpy itself adds up a contiguous axis otherwise."""
    x = half(np.random.default_rng(0).random((8, 20, 30)).astype(np.float32))
    along = axes if isinstance(axes, tuple) else (axes,)
    rows = np.moveaxis(x, along, range(len(along))).reshape(
        -1, *(n for axis, n in enumerate(x.shape) if axis not in along)
    )
    total = np.zeros_like(rows[0])
    for row in rows:
        total = half(total + row)
    for given in (x, np.asfortranarray(x), x[::-1].copy()[::-1]):
        np.testing.assert_array_equal(Numerics(is_half=True).sum(given, axes, keep_dims=False), total)
    assert Numerics(is_half=True).sum(x, axes).ndim == 3


def test_a_tenth_4096_times() -> None:
    """From 256 on its neighbours are further apart than 0.1."""
    for shape, axis in (((4096, 2), 0), ((2, 4096), 1)):
        assert Numerics(is_half=True).sum(np.full(shape, 0.1, np.float32), axis).max() == 256
    assert Numerics(is_half=True).cumsum(np.full((2, 4096), 0.1, np.float32), 1).max() == 256
    assert Numerics(is_half=True).sum(np.zeros((2, 0), np.float32), 1).tolist() == [[0], [0]]
