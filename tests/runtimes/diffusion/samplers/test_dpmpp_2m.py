"""DPM-Solver++(2M) against Lu et al. 2022, algorithm 2."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from on_chains import CLIPS, INTEGER_GRIDS, PREDICTIONS, N, agree, denoiser, karras_sigmas, sigmas_of_grid
from walks import Array, noises


def dpmpp_2m(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, in lambda = log(alpha/sigma) with the state x itself."""
    alphas = [1 / math.sqrt(1 + sigma**2) for sigma in sigmas]
    lambdas = [-math.log(sigma) for sigma in sigmas]
    estimates: list[Array] = []
    for i, (alpha, sigma) in enumerate(zip(alphas, sigmas, strict=True)):
        estimates.append(denoise(x / alpha, sigma))
        if i == len(sigmas) - 1:
            return estimates[-1]
        h, d = lambdas[i + 1] - lambdas[i], estimates[-1]
        if i > 0:
            r = (lambdas[i] - lambdas[i - 1]) / h
            d = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
        noise_scale = sigmas[i + 1] * alphas[i + 1] / (sigma * alpha)
        x = noise_scale * x - alphas[i + 1] * (math.exp(-h) - 1) * d
    raise AssertionError("no steps")


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
def test_on_the_karras_grid(prediction: str, clip: str) -> None:
    agree("dpmpp_2m", prediction, CLIPS[clip], dpmpp_2m(denoiser(prediction, clip), karras_sigmas(N), noises(0)[0]))


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
def test_on_a_grid_of_whole_times(grid: str) -> None:
    reference = dpmpp_2m(denoiser("velocity", "no clip"), sigmas_of_grid(grid), noises(0)[0])
    agree("dpmpp_2m", "velocity", {"grid": grid}, reference)
