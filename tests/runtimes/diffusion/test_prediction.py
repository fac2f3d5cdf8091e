"""Every prediction against the formula that defines it."""

from __future__ import annotations

import numpy as np
import pytest

from drun.diffusion.prediction import COMPONENTS, components, x0_coefficients
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import PATHS, FlowProcess
from drun.errors import ConfigError

#: Processes of every kind with times within them.
POINTS = [
    *((DiscreteProcess("linear"), t) for t in (0.0, 400.0, 999.0)),
    *((FlowProcess(path, noise_time), t) for path in PATHS for noise_time in (0, 1) for t in (0.01, 0.5, 0.9)),
]


def velocity(process: Process, t: float, x0: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """Salimans & Ho's for a chain; for a flow the derivative of x_t, by differences."""
    if isinstance(process, DiscreteProcess):
        return process.alpha(t) * eps - process.sigma(t) * x0
    h = 1e-6
    later, earlier = (process.alpha(t + step) * x0 + process.sigma(t + step) * eps for step in (h, -h))
    return (later - earlier) / (2 * h)


#: What a perfect network returns for x0 and eps, as each paper defines it.
TARGETS = {
    "noise":    lambda process, t, x0, eps: eps,
    "x0":       lambda process, t, x0, eps: x0,
    "velocity": velocity,
    "score":    lambda process, t, x0, eps: -eps / process.sigma(t),
}  # fmt: skip


def test_every_prediction_is_covered() -> None:
    assert set(COMPONENTS) == set(TARGETS)


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize(("process", "t"), POINTS)
def test_components_give_the_target(prediction: str, process: Process, t: float) -> None:
    x0, eps = np.random.default_rng(0).standard_normal((2, 5))
    a, b = components(prediction, process, t)
    np.testing.assert_allclose(a * x0 + b * eps, TARGETS[prediction](process, t, x0, eps), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prediction", TARGETS)
def test_components_at_many_times_are_those_at_each(prediction: str) -> None:
    process, t = FlowProcess("cosine", 0), [0.1, 0.4, 0.7]
    together = np.stack(components(prediction, process, t))
    assert together.shape == (2, 3)
    np.testing.assert_array_equal(together.T, [components(prediction, process, each) for each in t])


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize(("process", "t"), POINTS)
def test_clean_image_from_any_output(prediction: str, process: Process, t: float) -> None:
    """The output need not be a perfect network's: with eps = (x - alpha x0) / sigma it is the target again."""
    x, m = np.random.default_rng(1).standard_normal((2, 5))
    p, q = x0_coefficients(prediction, process, t)
    x0 = p * x + q * m
    eps = (x - process.alpha(t) * x0) / process.sigma(t)
    np.testing.assert_allclose(TARGETS[prediction](process, t, x0, eps), m, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise_time", [0, 1])
@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_velocity_tells_the_image_of_pure_noise(path: str, noise_time: int) -> None:
    """Where alpha = 0: x = eps, and the velocity's part of x0 is not zero."""
    process = FlowProcess(path, noise_time)
    x0, eps = np.random.default_rng(2).standard_normal((2, 5))
    p, q = x0_coefficients("velocity", process, process.noise_end)
    slope = {"linear": 1, "cosine": np.pi / 2}[path]
    np.testing.assert_allclose(p * eps + q * _at_noise(x0, eps, path, noise_time), x0, rtol=1e-9)
    assert slope == pytest.approx(-1 / q * (1 if noise_time else -1))


def _at_noise(x0: np.ndarray, eps: np.ndarray, path: str, noise_time: int) -> np.ndarray:
    """The velocity along REPA's time at t = 1: linear eps - x0, cosine -(pi/2) x0; SiT's time runs the other way."""
    repa = eps - x0 if path == "linear" else -np.pi / 2 * x0
    return repa if noise_time else -repa


@pytest.mark.parametrize("prediction", ["noise", "score"])
def test_noise_and_score_say_nothing_of_pure_noise(prediction: str) -> None:
    with pytest.raises(ConfigError, match=f"at time 1 x is pure noise, .* {prediction} .* give the process a margin"):
        x0_coefficients(prediction, FlowProcess("linear"), 1.0)
    process = FlowProcess("linear", margin=1e-3)
    assert np.isfinite(x0_coefficients(prediction, process, process.noise_end)).all()


def test_unknown_prediction_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown prediction 'flow': choose one of noise, x0, velocity, score"):
        x0_coefficients("flow", DiscreteProcess("linear"), 500.0)
