"""The operations that numpy and torch spell differently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drun.diffusion.arrays import clip, empty, interpolated_std, magnitude_quantile, on_host, scale

X = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)


def test_empty_takes_dtype_and_kind() -> None:
    assert empty((2, 3), like=X).dtype == np.float32
    tensor = empty((2, 3), like=torch.zeros(1, dtype=torch.float64))
    assert (tuple(tensor.shape), tensor.dtype) == ((2, 3), torch.float64)


def test_clip_works_in_place() -> None:
    array, tensor = X.copy(), torch.from_numpy(X.copy())
    clip(array, -0.5, 0.5)
    clip(tensor, -0.5, 0.5)
    np.testing.assert_array_equal(array, np.minimum(np.maximum(X, -0.5), 0.5))
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.93, 1.0])
def test_quantile_of_the_magnitude_of_each_image(quantile: float) -> None:
    position = quantile * 74
    low, part = int(position), position - int(position)
    ordered = [sorted(abs(float(value)) for value in image.ravel()) for image in X]
    expected = [o[low] + part * (o[min(low + 1, 74)] - o[low]) for o in ordered]
    for x in (X, torch.from_numpy(X)):
        bounds = magnitude_quantile(x, quantile)
        assert tuple(bounds.shape) == (4, 1, 1, 1)
        np.testing.assert_allclose(np.asarray(bounds).ravel(), expected, rtol=1e-6)


def test_scale_computes_in_the_dtype_of_its_result() -> None:
    """A float16 output times 1/3 into a float32 state keeps float32's digits."""
    half = X.astype(np.float16)
    expected = half.astype(np.float32) * np.float32(1 / 3)
    array, tensor = np.empty(X.shape, np.float32), torch.empty(X.shape)
    scale(half, 1 / 3, out=array)
    scale(torch.from_numpy(half), 1 / 3, out=tensor)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize("v", [-1.0, -0.4, 0.0, 1.0, 1.5])
def test_interpolated_std(v: float) -> None:
    """Nichol & Dhariwal 2021, eq. 15: the bounds at v = -1 and 1, in the logarithm between and beyond them."""
    low, high, share = -7.0, -2.0, (v + 1) / 2
    expected = math.sqrt(math.exp(share * high + (1 - share) * low))
    array = np.full((1, 2, 1, 1), v)
    for got in (interpolated_std(array, low, high), interpolated_std(torch.from_numpy(array), low, high)):
        np.testing.assert_allclose(np.asarray(got), np.full((1, 2, 1, 1), expected), rtol=1e-12)
    assert (array == v).all()


def test_on_host() -> None:
    assert on_host(X) is X
    got = on_host(torch.from_numpy(X))
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, X)
