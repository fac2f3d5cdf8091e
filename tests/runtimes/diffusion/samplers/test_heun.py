"""Heun's method against Karras et al. 2022, and on flows against REPA's and SiT's loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import on_flows as flows
import pytest
from on_chains import CLIPS, INTEGER_GRIDS, PREDICTIONS, N, agree, denoiser, karras_sigmas, sigmas_of_grid
from papers import repa_scales
from walks import Array, Network, noises, walk

from drun.diffusion import samplers
from drun.diffusion.guidance import with_guidance
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError


def heun(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Karras et al. 2022, algorithm 1."""
    x = x * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in pairwise([*sigmas, 0.0]):
        d = (x - denoise(x, sigma)) / sigma
        x_next = x + (following - sigma) * d
        if following > 0:
            d_next = (x_next - denoise(x_next, following)) / following
            x_next = x + (following - sigma) * (d + d_next) / 2
        x = x_next
    return x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
def test_on_the_karras_grid(prediction: str, clip: str) -> None:
    agree("heun", prediction, CLIPS[clip], heun(denoiser(prediction, clip), karras_sigmas(N), noises(0)[0]))


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
def test_on_a_grid_of_whole_times(grid: str) -> None:
    reference = heun(denoiser("velocity", "no clip"), sigmas_of_grid(grid), noises(0)[0])
    agree("heun", "velocity", {"grid": grid}, reference)


@pytest.mark.parametrize("path", flows.PATHS)
@pytest.mark.parametrize("noise_time", [0, 1])
def test_repas_heun(path: str, noise_time: int) -> None:
    """Even times from 1 to 0; the last step is Euler's (facts 3.1), on request in SiT's convention of time, too."""
    x, _ = noises(0)
    reference = x
    for t, following in pairwise(np.linspace(1, 0, flows.N + 1)):
        v = flows.network(reference, t)
        if following > 0:
            v = 0.5 * (v + flows.network(reference + (following - t) * v, following))
        reference = reference + (following - t) * v
    options = {"last_step": "euler"} if noise_time == 0 else {}
    table = samplers.step_table("heun", FlowProcess(path, noise_time), "velocity", flows.N, options)
    assert len(table.rows) == 2 * flows.N - 1
    flows.agree(walk(table, x, [], flows.network if noise_time else flows.flipped), reference)


def sit_heun(velocity: Network, x: Array, times: Array) -> Array:
    """torchdiffeq's fixed Heun on t = linspace(t0, t1, points), as SiT calls it (facts 3.2): every step corrected."""
    for t, following in pairwise(times.tolist()):
        v = velocity(x, t)
        x = x + (following - t) / 2 * (v + velocity(x + (following - t) * v, following))
    return x


@pytest.mark.parametrize("path", flows.PATHS)
@pytest.mark.parametrize("num_steps", [1, 2, flows.N])
def test_sits_heun_corrects_the_last_step(path: str, num_steps: int) -> None:
    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(path, noise_time=0), "velocity", num_steps)
    assert len(table.rows) == 2 * num_steps
    flows.agree(walk(table, x, [], flows.flipped), sit_heun(flows.flipped, x, np.linspace(0, 1, num_steps + 1)))


@pytest.mark.parametrize(
    ("path", "prediction", "margin", "start"),
    [("linear", "noise", 1e-3, 1e-3), ("cosine", "score", 1e-3, 1e-3), ("vp", "velocity", 1e-5, 0.0)],
)
def test_sits_heun_stays_within_sits_margins(path: str, prediction: str, margin: float, start: float) -> None:
    """t0 and t1 of SiT's transport; noise and score become the drift of the probability-flow ODE."""

    def drift(x: Array, t: float) -> Array:
        alpha, sigma, d_alpha, d_sigma = repa_scales(path, 1 - t)
        m = flows.flipped(x, t)
        if prediction == "velocity":
            return m
        noise = m if prediction == "noise" else -sigma * m
        return -(d_alpha * (x - sigma * noise) / alpha + d_sigma * noise)

    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(path, 0, margin), prediction, flows.N)
    assert len(table.rows) == 2 * flows.N
    flows.agree(
        walk(table, x, [], flows.flipped),
        sit_heun(drift, x, np.linspace(start, 1 - margin, flows.N + 1)),
    )


def test_repas_heun_corrects_the_last_step_on_request() -> None:
    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(), "velocity", flows.N, {"last_step": "heun"})
    flows.agree(walk(table, x, [], flows.network), sit_heun(flows.network, x, np.linspace(1, 0, flows.N + 1)))


@pytest.mark.parametrize(
    ("process", "options", "calls"),
    [
        (FlowProcess(noise_time=0), {}, 2 * flows.N),
        (FlowProcess(noise_time=0), {"grid": "karras"}, 2 * flows.N - 1),
        (FlowProcess(noise_time=0), {"last_step": "euler", "clip_x0": True}, 2 * flows.N - 1),
        (FlowProcess(noise_time=1), {}, 2 * flows.N - 1),
        (DiscreteProcess("linear"), {}, 2 * flows.N - 1),
    ],
)
def test_only_sits_heun_corrects_the_last_step_unasked(process: Process, options: dict[str, Any], calls: int) -> None:
    assert len(samplers.step_table("heun", process, "velocity", flows.N, options).rows) == calls


def test_both_calls_of_a_heun_step_are_guided_alike() -> None:
    """REPA decides once a step, by its first time."""
    table = samplers.step_table("heun", FlowProcess(), "velocity", 10)
    weights = [row.w for row in with_guidance(table, 2.0, (0.0, 0.55)).rows]
    assert weights == [1.0] * 10 + [2.0] * 9


def test_both_calls_of_the_corrected_last_step_are_guided_alike() -> None:
    """torchdiffeq knows no intervals: the second call at the data itself is guided as the first."""
    table = samplers.step_table("heun", FlowProcess(noise_time=0), "velocity", 4)
    assert [row.w for row in with_guidance(table, 2.0, (0.7, 0.8)).rows] == [1.0] * 6 + [2.0] * 2


@pytest.mark.parametrize("prediction", ["x0", "score"])
def test_a_last_step_that_the_network_cannot_correct_is_refused(prediction: str) -> None:
    process = FlowProcess("vp" if prediction == "score" else "linear", noise_time=0)
    message = f"x is the data, .* predicts {prediction} says nothing about the velocity: .*last_step=euler"
    with pytest.raises(ConfigError, match=message):
        samplers.step_table("heun", process, prediction, flows.N)
    assert samplers.step_table("heun", process, prediction, flows.N, {"last_step": "euler"}).rows


def test_a_chain_has_no_call_at_the_data() -> None:
    with pytest.raises(ConfigError, match=r"last_step=heun got a process of kind discrete .*, expected a flow"):
        samplers.step_table("heun", DiscreteProcess("linear"), "noise", flows.N, {"last_step": "heun"})
