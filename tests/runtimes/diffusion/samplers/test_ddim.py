"""DDIM against Song et al. 2021."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from on_chains import (
    ABAR,
    CLIPS,
    INTEGER_GRIDS,
    PREDICTIONS,
    PROCESS,
    N,
    ToX0,
    agree,
    ddpm,
    denoiser,
    euler,
    reference_x0,
    sigmas_of_grid,
)
from walks import Array, noises

from drun.diffusion import samplers
from drun.errors import ConfigError


def ddim(x0_at: ToX0, visited: list[int], eta: float, x: Array, z: list[Array]) -> Array:
    """Song et al. 2021, eq. 12 and 16; eps follows from the bounded x0. `visited` falls."""
    for t, following in pairwise([*visited, None]):
        abar, abar_next = ABAR[t], 1.0 if following is None else ABAR[following]
        x0 = x0_at(x, t, abar)
        eps = (x - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
        s = eta * math.sqrt((1 - abar_next) / (1 - abar)) * math.sqrt(1 - abar / abar_next)
        x = math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next - s**2) * eps
        if s > 0:
            x = x + s * z.pop(0)
    return x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(prediction: str, clip: str, eta: float) -> None:
    visited = list(INTEGER_GRIDS["trailing"])[::-1]
    reference = ddim(reference_x0(prediction, clip), visited, eta, *noises(N))
    agree("ddim", prediction, CLIPS[clip] | {"eta": eta}, reference)


def test_ddim_on_the_leading_grid() -> None:
    visited = list(INTEGER_GRIDS["leading"])[::-1]
    reference = ddim(reference_x0("noise", "clip"), visited, 0.5, *noises(N))
    agree("ddim", "noise", {"grid": "leading", "eta": 0.5}, reference)


def test_ddim_with_eta_1_is_ancestral() -> None:
    """Song et al. 2021, section 4.1."""
    x, z = noises(N)
    kept = [round(i * 999 / 7) for i in range(8)]
    reference = ddpm(reference_x0("noise", "clip"), kept, "fixed_small", x, z)
    agree("ddim", "noise", {"grid": "respaced", "eta": 1}, reference)


@pytest.mark.parametrize("grid", ["karras", "trailing"])
def test_ddim_is_euler(grid: str) -> None:
    """Song et al. 2021, section 4.3: DDIM is Euler's method in x/alpha over sigma/alpha."""
    reference = euler(denoiser("noise", "clip"), sigmas_of_grid(grid), noises(0)[0])
    agree("ddim", "noise", {"grid": grid}, reference)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_ddim_refuses_an_eta_outside_0_to_1(eta: float) -> None:
    with pytest.raises(ConfigError, match=f"eta got {eta}, expected a share of the ancestral noise from 0 to 1"):
        samplers.step_table("ddim", PROCESS, "noise", 10, {"eta": eta})
