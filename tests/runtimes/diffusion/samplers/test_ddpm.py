"""Ancestral sampling against Ho et al. 2020 and Nichol & Dhariwal 2021, and against DiT's loop."""

from __future__ import annotations

import math

import numpy as np
import on_flows as flows
import pytest
from on_chains import ABAR, CLIPS, INTEGER_GRIDS, PREDICTIONS, PROCESS, N, agree, ddpm, network, reference_x0
from papers import dit
from walks import Array, noises, walk

from drun.diffusion import samplers
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_on_a_subset(prediction: str, clip: str, variance: str) -> None:
    kept = [round(i * 999 / 7) for i in range(8)]
    reference = ddpm(reference_x0(prediction, clip), kept, variance, *noises(N))
    agree("ddpm", prediction, CLIPS[clip] | {"variance": variance}, reference)


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
def test_ddpm_on_other_grids(grid: str) -> None:
    reference = ddpm(reference_x0("noise", "clip"), list(INTEGER_GRIDS[grid]), "fixed_small", *noises(N))
    agree("ddpm", "noise", {"grid": grid}, reference)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_in_all_steps_is_the_original_chain(variance: str) -> None:
    """Ho et al. 2020, algorithm 2, in its noise form and with the training betas: no respacing, no clipping."""
    betas = np.linspace(1e-4, 0.02, 1000)
    x, z = noises(1000)
    draws = iter(z)
    for t in reversed(range(1000)):
        mean = (x - betas[t] / math.sqrt(1 - ABAR[t]) * network(x, t)) / math.sqrt(1 - betas[t])
        small = betas[t] * (1 - ABAR[t - 1]) / (1 - ABAR[t])
        x = mean if t == 0 else mean + math.sqrt(small if variance == "fixed_small" else betas[t]) * next(draws)
    agree("ddpm", "noise", {"clip_x0": False, "variance": variance}, x, steps=1000)


def test_ddpm_draws_no_noise_on_the_last_step() -> None:
    table = samplers.step_table("ddpm", PROCESS, "noise", 10)
    assert [row.c > 0 for row in table.rows] == [True] * 9 + [False]
    assert table.num_noises == 9


def two_halves(x: Array, t: float) -> Array:
    """Noise and variance of one network."""
    return np.concatenate([flows.network(x, t / 1000), np.sin(3 * x)], axis=1)


def test_dits_ancestral_sampler_with_learned_variance() -> None:
    options = {"variance": "learned_range", "clip_x0": False}
    table = samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", 25, options, "learned_range")
    assert table.num_noises == 24
    x, z = noises(24)
    flows.agree(walk(table, x, list(z), two_halves), dit(two_halves, x, z, 25))


def test_other_samplers_leave_the_variance_alone() -> None:
    x, _ = noises(0)
    table = samplers.step_table("ddim", DiscreteProcess("linear"), "noise", 10, {}, "learned_range")
    flows.agree(walk(table, x, [], two_halves), walk(table, x, [], lambda x, t: flows.network(x, t / 1000)))


def test_a_learned_variance_needs_a_network_that_predicts_it() -> None:
    with pytest.raises(ConfigError, match="predicts no variance: choose fixed_small or fixed_large"):
        samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", 10, {"variance": "learned_range"})
