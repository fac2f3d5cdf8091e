"""The interpolants against the formulas of SiT (Ma et al. 2024) and REPA (Yu et al. 2025), written out for each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drun.diffusion.process import from_dict
from drun.diffusion.process.flow import PATHS, FlowProcess
from drun.errors import ConfigError

#: SiT's time: t = 1 is data. (alpha, sigma)
SIT = {
    "linear": lambda t: (t, 1 - t),
    "cosine": lambda t: (math.sin(math.pi * t / 2), math.cos(math.pi * t / 2)),
    "vp": lambda t: (
        math.exp(-0.25 * (1 - t) ** 2 * 19.9 - 0.05 * (1 - t)),
        math.sqrt(1 - math.exp(2 * (-0.25 * (1 - t) ** 2 * 19.9 - 0.05 * (1 - t)))),
    ),
}
TIMES = [0.001, 0.3, 0.5, 0.96]


def test_every_path_is_covered() -> None:
    assert set(PATHS) == set(SIT)


@pytest.mark.parametrize("path", SIT)
@pytest.mark.parametrize("t", TIMES)
def test_scales_in_both_conventions(path: str, t: float) -> None:
    """REPA's time is one minus SiT's."""
    expected = pytest.approx(SIT[path](t), rel=1e-12)
    sit, repa = FlowProcess(path, noise_time=0), FlowProcess(path, noise_time=1)
    assert (float(sit.alpha(t)), float(sit.sigma(t))) == expected
    assert (float(repa.alpha(1 - t)), float(repa.sigma(1 - t))) == expected


@pytest.mark.parametrize("path", SIT)
@pytest.mark.parametrize("noise_time", [0, 1])
@pytest.mark.parametrize("t", TIMES)
def test_velocity_is_the_derivative_by_the_models_own_time(path: str, noise_time: int, t: float) -> None:
    process, h = FlowProcess(path, noise_time), 1e-6
    slopes = [(of(t + h) - of(t - h)) / (2 * h) for of in (process.alpha, process.sigma)]
    assert [float(part) for part in process.velocity(t)] == pytest.approx([float(slope) for slope in slopes], rel=1e-5)


@pytest.mark.parametrize("path", SIT)
@pytest.mark.parametrize("noise_time", [0, 1])
def test_time_inverts_the_ratio(path: str, noise_time: int) -> None:
    process, t = FlowProcess(path, noise_time), np.array(TIMES)
    np.testing.assert_allclose(process.time(process.ratio(t)), t, rtol=1e-9)


@pytest.mark.parametrize("noise_time", [0, 1])
def test_ends(noise_time: int) -> None:
    process = FlowProcess("linear", noise_time)
    assert process.noise_end == noise_time
    assert process.ratio(process.noise_end) == math.inf
    assert (process.alpha(1 - noise_time), process.sigma(1 - noise_time)) == (1, 0)
    assert FlowProcess("linear", noise_time, margin=0.25).noise_end == abs(noise_time - 0.25)


def test_vp_has_no_margin_at_its_noise() -> None:
    process = FlowProcess("vp", noise_time=0, margin=1e-5)
    assert (process.noise_end, process.deepest) == (0.0, 1.0)
    assert float(process.alpha(0.0)) == pytest.approx(math.exp(-5.025))
    assert math.isfinite(process.ratio(0.0))


def test_round_trip() -> None:
    process = FlowProcess("cosine", noise_time=0, margin=1e-3)
    assert from_dict(process.to_dict()) == process


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "flow", "path": "bent", "noise_time": 1}, "unknown path 'bent': choose one of linear, cosine, vp"),
        ({"kind": "flow", "path": "linear", "noise_time": 2}, "noise_time got 2, expected 1 .* or 0"),
        ({"kind": "flow", "path": "linear"}, "has a wrong or missing field: it lacks 'noise_time'"),
        ({"kind": "flow", "path": "linear", "noise_time": 1, "margin": 0.7}, "margin got 0.7"),
        ({"kind": "flow", "path": "linear", "noise_time": 1, "beta": 3}, "has a wrong or missing field: .*beta"),
        ({"kind": "bridge"}, "unknown process kind 'bridge', expected discrete or flow"),
    ],
)
def test_wrong_configurations_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(config)
