"""The interpolants against the formulas of SiT (Ma et al. 2024) and REPA (Yu et al. 2025), written out for each."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench import cli as dbench
from dexport import cli as dexport
from drun import cli as drun
from drun.diffusion.process.flow import PATHS, FlowProcess
from drun.errors import ConfigError
from dtrain import cli as dtrain

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


def derivative(of: Callable[[float], np.ndarray], at: float, h: float = 1e-6) -> float:
    return float(of(at + h) - of(at - h)) / (2 * h)


@pytest.mark.parametrize("path", SIT)
@pytest.mark.parametrize("noise_time", [0, 1])
@pytest.mark.parametrize("depth", TIMES)
def test_slope_by_depth_is_the_derivative_by_the_depth(path: str, noise_time: int, depth: float) -> None:
    """The same in both conventions, and the velocity of REPA's."""
    process = FlowProcess(path, noise_time)
    got = [float(part) for part in process.slope_by_depth(process.at_depth(depth))]
    expected = [derivative(lambda d, i=i: np.array(SIT[path](1 - d)[i]), depth) for i in (0, 1)]
    assert got == pytest.approx(expected, rel=1e-5)
    assert got == pytest.approx([float(part) for part in FlowProcess(path, 1).velocity(depth)], rel=1e-9)


@pytest.mark.parametrize(("noise_time", "data", "noise"), [(0, 1.0, 0.0), (1, 0.0, 1.0)])
def test_times_and_depths_of_numbers_and_arrays(noise_time: int, data: float, noise: float) -> None:
    process, depths = FlowProcess("cosine", noise_time), np.array([[0.0, 0.25], [0.5, 1.0]])
    assert (process.at_depth(0.0), process.at_depth(1.0)) == (data, noise)
    times = process.at_depth(depths)
    np.testing.assert_array_equal(times, data + (noise - data) * depths)
    np.testing.assert_array_equal(process.depth(times), depths)


def test_whose_time_it_is() -> None:
    """REPA says t = 1 for noise, SiT t = 0."""
    assert (FlowProcess(noise_time=1).time_convention, FlowProcess(noise_time=0).time_convention) == ("repa", "sit")


def test_only_the_processes_know_which_end_of_time_is_noise() -> None:
    """All others ask `FlowProcess`, so that a convention cannot be read in two ways."""
    readers = set()
    for package in (drun, dtrain, dexport, dbench):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if any(isinstance(node, ast.Attribute) and node.attr == "noise_time" for node in nodes):
                readers.add(f"{root.name}/{path.relative_to(root).as_posix()}")
    assert readers == {"drun/diffusion/process/flow.py"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "bent"}, "unknown path 'bent': choose one of linear, cosine, vp"),
        ({"noise_time": 2}, "noise_time got 2, expected 1 .* or 0"),
        ({"margin": 0.5}, "margin got 0.5, expected 0 up to, not including, 0.5"),
        ({"margin": -0.1}, "margin got -0.1"),
    ],
)
def test_wrong_flows_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FlowProcess(**fields)
