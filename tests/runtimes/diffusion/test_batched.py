"""Batches of any size on an artifact that takes only some, on real ONNX Runtime sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drun.backends import ort
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.diffusion.batched import Batched
from drun.errors import ConfigError

RNG = np.random.default_rng(0)


class Watched(ort.Runtime):
    """ONNX Runtime that notes the batches it is called with."""

    def __init__(self, bundle: Bundle) -> None:
        self.batches: list[int] = []
        super().__init__(bundle, bundle.manifest.artifacts[0], "fp32")

    def predict(self, *inputs: Any) -> Any:
        x, t, *labels = inputs
        assert (x.dtype, t.dtype, len(t)) == (np.float32, np.float32, len(x))
        assert not labels or (labels[0].dtype, len(labels[0])) == (np.int64, len(x))
        self.batches.append(len(x))
        return super().predict(*inputs)


def open_watched(path: Path) -> tuple[Watched, Batched]:
    backend = Watched(bundles.read(path))
    return backend, backend.batched


@pytest.mark.parametrize(
    ("allowed", "size", "calls"),
    [
        ((1, 8), 1, [1]),
        ((1, 8), 8, [8]),
        ((1, 8), 9, [8, 1]),
        ((1, 8), 20, [8, 8, 4]),
        ((4, 4), 4, [4]),
        ((4, 4), 1, [4]),
        ((4, 4), 6, [4, 4]),
        ((4, 4), 9, [4, 4, 4]),
        ((3, 5), 2, [3]),
        ((3, 5), 6, [5, 3]),
    ],
)
@pytest.mark.parametrize("conditional", [False, True])
def test_padding_and_cutting(
    make_bundle: Callable[..., Path],
    exact_noise: Callable[..., np.ndarray],
    allowed: tuple[int, int],
    size: int,
    calls: list[int],
    conditional: bool,
) -> None:
    backend, denoiser = open_watched(make_bundle(batch=allowed, conditional=conditional))
    labels = np.arange(size) % 10 if conditional else None
    x = RNG.standard_normal((size, 3, 8, 8)).astype(np.float32)
    for t in (99, 40):  # the second call meets the buffers of the first
        got = denoiser(x, float(t), labels)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, exact_noise(x.astype(np.float64), t, labels), rtol=1e-5, atol=1e-6)
    assert backend.batches == calls * 2


def test_sizes_may_change_from_call_to_call(
    make_bundle: Callable[..., Path], exact_noise: Callable[..., np.ndarray]
) -> None:
    _, denoiser = open_watched(make_bundle(batch=(2, 8), conditional=True))
    for size in (8, 1, 5, 8, 3, 12, 1):
        x, labels = RNG.standard_normal((size, 3, 8, 8)), RNG.integers(0, 10, size)
        np.testing.assert_allclose(denoiser(x, 70.0, labels), exact_noise(x, 70, labels), rtol=1e-5, atol=1e-6)


def test_a_state_that_changes_in_place_is_seen_at_another_time_and_with_other_labels(
    make_bundle: Callable[..., Path], exact_noise: Callable[..., np.ndarray]
) -> None:
    """As the loop's own, which the network takes without a copy."""
    _, denoiser = open_watched(make_bundle(batch=(1, 8), conditional=True))
    x = RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)
    for t, labels in ((90, np.array([1, 2, 3])), (40, np.array([1, 2, 3])), (40, np.array([7, 0, 5]))):
        expected = exact_noise(x.astype(np.float64), t, labels)
        np.testing.assert_allclose(denoiser(x, float(t), labels), expected, rtol=1e-5, atol=1e-6)
        x *= 0.5
    crossed = np.asfortranarray(x)  # the same numbers in another order in memory
    np.testing.assert_array_equal(denoiser(crossed, 40.0, labels).copy(), denoiser(x, 40.0, labels))


def test_a_float64_state_is_cast(bundle: Bundle) -> None:
    _, denoiser = open_watched(bundle.path)
    x = RNG.standard_normal((2, 3, 8, 8))
    np.testing.assert_array_equal(denoiser(x, 5.0, None), denoiser(x.astype(np.float32), 5.0, None))


def test_images_of_another_shape_are_refused(bundle: Bundle) -> None:
    _, denoiser = open_watched(bundle.path)
    with pytest.raises(ConfigError, match=r"takes images of shape \(3, 8, 8\), got \(3, 16, 16\)"):
        denoiser(np.zeros((1, 3, 16, 16), np.float32), 5.0, None)
