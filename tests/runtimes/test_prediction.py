"""Every prediction against the formula that defines it."""

from __future__ import annotations

import numpy as np
import pytest

from drun.errors import ConfigError
from drun.prediction import COMPONENTS, components, x0_coefficients

#: What a perfect network returns for x0 and eps, as each paper defines it.
TARGETS = {
    "noise":    lambda x0, eps, alpha, sigma: eps,
    "x0":       lambda x0, eps, alpha, sigma: x0,
    "velocity": lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    "score":    lambda x0, eps, alpha, sigma: -eps / sigma,
}  # fmt: skip

#: The clean image from the state and the network's output.
INVERSES = {
    "noise":    lambda x, m, alpha, sigma: (x - sigma * m) / alpha,
    "x0":       lambda x, m, alpha, sigma: m,
    "velocity": lambda x, m, alpha, sigma: alpha * x - sigma * m,
    "score":    lambda x, m, alpha, sigma: (x + sigma**2 * m) / alpha,
}  # fmt: skip

ANGLES = [0.01, 0.5, 1.2, 1.57]


def test_every_prediction_is_covered() -> None:
    assert set(COMPONENTS) == set(TARGETS) == set(INVERSES)


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("angle", ANGLES)
def test_components_give_the_target(prediction: str, angle: float) -> None:
    alpha, sigma = np.cos(angle), np.sin(angle)
    x0, eps = np.random.default_rng(0).standard_normal((2, 5))
    a, b = components(prediction, alpha, sigma)
    np.testing.assert_allclose(a * x0 + b * eps, TARGETS[prediction](x0, eps, alpha, sigma), rtol=1e-12)


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("angle", ANGLES)
def test_clean_image_from_any_output(prediction: str, angle: float) -> None:
    """The output need not be a perfect network's."""
    alpha, sigma = np.cos(angle), np.sin(angle)
    x, m = np.random.default_rng(1).standard_normal((2, 5))
    p, q = x0_coefficients(prediction, alpha, sigma)
    np.testing.assert_allclose(p * x + q * m, INVERSES[prediction](x, m, alpha, sigma), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("source", TARGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_all_predictions_of_one_network_agree(source: str, target: str) -> None:
    """From one prediction to x0 and eps, and from there to any other."""
    alpha, sigma = np.cos(0.9), np.sin(0.9)
    x0, eps = np.random.default_rng(2).standard_normal((2, 5))
    x = alpha * x0 + sigma * eps
    p, q = x0_coefficients(source, alpha, sigma)
    found = p * x + q * TARGETS[source](x0, eps, alpha, sigma)
    a, b = components(target, alpha, sigma)
    converted = a * found + b * (x - alpha * found) / sigma
    np.testing.assert_allclose(converted, TARGETS[target](x0, eps, alpha, sigma), rtol=1e-10)


def test_unknown_prediction_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown prediction 'flow': choose one of noise, x0, velocity, score"):
        x0_coefficients("flow", 0.5, 0.5)
