"""Euler's method against Karras et al. 2022, and on flows against REPA's and SiT's loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import on_flows as flows
import pytest
from on_chains import CLIPS, INTEGER_GRIDS, PREDICTIONS, N, agree, denoiser, euler, karras_sigmas, sigmas_of_grid
from walks import noises, walk

from drun.diffusion import samplers
from drun.diffusion.process.flow import FlowProcess


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
def test_on_the_karras_grid(prediction: str, clip: str) -> None:
    agree("euler", prediction, CLIPS[clip], euler(denoiser(prediction, clip), karras_sigmas(N), noises(0)[0]))


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
def test_on_a_grid_of_whole_times(grid: str) -> None:
    reference = euler(denoiser("velocity", "no clip"), sigmas_of_grid(grid), noises(0)[0])
    agree("euler", "velocity", {"grid": grid}, reference)


@pytest.mark.parametrize("path", flows.PATHS)
@pytest.mark.parametrize("noise_time", [0, 1])
def test_on_a_flow(path: str, noise_time: int) -> None:
    """x += (t_(i+1) - t_i) v at even times from the noise to the data, in both conventions of time."""
    x, _ = noises(0)
    reference = x
    for t, following in pairwise(np.linspace(1, 0, flows.N + 1)):
        reference = reference + (following - t) * flows.network(reference, t)
    table = samplers.step_table("euler", FlowProcess(path, noise_time), "velocity", flows.N)
    assert len(table.rows) == flows.N
    flows.agree(walk(table, x, [], flows.network if noise_time else flows.flipped), reference)
