"""The operations that numpy and torch spell differently."""

from __future__ import annotations

import numpy as np
import pytest

from drun.diffusion.arrays import clip, empty, magnitude_quantile

X = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)


def test_empty_takes_dtype_and_kind() -> None:
    torch = pytest.importorskip("torch")
    assert empty((2, 3), like=X).dtype == np.float32
    tensor = empty((2, 3), like=torch.zeros(1, dtype=torch.float64))
    assert (tuple(tensor.shape), tensor.dtype) == ((2, 3), torch.float64)


def test_clip_works_in_place() -> None:
    torch = pytest.importorskip("torch")
    array, tensor = X.copy(), torch.from_numpy(X.copy())
    clip(array, 0.5)
    clip(tensor, 0.5)
    np.testing.assert_array_equal(array, np.minimum(np.maximum(X, -0.5), 0.5))
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.93, 1.0])
def test_quantile_of_the_magnitude_of_each_image(quantile: float) -> None:
    torch = pytest.importorskip("torch")
    position = quantile * 74
    low, part = int(position), position - int(position)
    ordered = [sorted(abs(float(value)) for value in image.ravel()) for image in X]
    expected = [o[low] + part * (o[min(low + 1, 74)] - o[low]) for o in ordered]
    for x in (X, torch.from_numpy(X)):
        bounds = magnitude_quantile(x, quantile)
        assert tuple(bounds.shape) == (4, 1, 1, 1)
        np.testing.assert_allclose(np.asarray(bounds).ravel(), expected, rtol=1e-6)
