"""The null backend is the closed form of a Gaussian's denoiser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drun.backends import null
from drun.bundle import reading as bundles
from drun.diffusion.process.discrete import DiscreteProcess

PROCESS = DiscreteProcess("linear", 100)


@pytest.mark.parametrize("prediction", ["noise", "x0", "velocity", "score"])
@pytest.mark.parametrize("label", [None, 3])
def test_null_is_the_posterior_mean(make_bundle: Callable[..., Path], prediction: str, label: int | None) -> None:
    """By integration: E[target | x_t] over x0 ~ N(0.1 label, 1/4) with the likelihood N(x_t; alpha x0, sigma^2)."""
    bundle = bundles.read(make_bundle(conditional=label is not None, prediction=prediction))
    t = 40
    alpha, sigma = float(PROCESS.alpha(t)), float(PROCESS.sigma(t))
    x = np.linspace(-2, 2, 4)
    x0 = np.linspace(-6, 6, 20_001)[:, None]
    mean = 0.0 if label is None else 0.1 * label
    weights = np.exp(-0.5 * ((x0 - mean) / 0.5) ** 2 - 0.5 * ((x - alpha * x0) / sigma) ** 2)
    eps = (x - alpha * x0) / sigma
    target = {"noise": eps, "x0": x0, "velocity": alpha * eps - sigma * x0, "score": -eps / sigma}[prediction]
    expected = (weights * target).sum(axis=0) / weights.sum(axis=0)
    labels = () if label is None else (np.array([label]),)
    got = null.Runtime(bundle).predict(x.reshape(1, 1, 2, 2), np.array([t], np.float32), *labels)
    np.testing.assert_allclose(got.ravel(), expected, rtol=1e-5)


def test_null_stays_in_float32(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    x = np.ones((2, 3, 8, 8), np.float32)
    assert null.Runtime(bundle).predict(x, np.zeros(2, np.float32), np.array([1, 2])).dtype == np.float32
