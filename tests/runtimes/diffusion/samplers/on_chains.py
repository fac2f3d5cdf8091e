"""What the tests of samplers on discrete chains share: a network, its clean image from the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from walks import Array, noises, walk

from drun.diffusion import samplers
from drun.diffusion.process.discrete import DiscreteProcess

ToX0 = Callable[[Array, float, float, float], Array]
PREDICTIONS = ["noise", "x0", "velocity", "score"]
CLIPS = {
    "no clip": {"clip_x0": False},
    "clip":    {"clip_x0": True},
    "dynamic": {"clip_x0": False, "dynamic_threshold": 0.9},
}  # fmt: skip
PROCESS = DiscreteProcess("linear")
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
INTEGER_GRIDS = {"leading": range(0, 1000, 125), "trailing": range(124, 1000, 125)}
N = 8


def network(x: Array, t: float) -> Array:
    """Any function will do: the samplers must agree on what a wrong network makes them do, too."""
    return np.tanh(0.7 * x + 0.001 * t) - 0.2 * x


def clean(prediction: str, x: Array, m: Array, abar: float) -> Array:
    """x0 from the definition of each prediction."""
    alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    if prediction == "noise":
        return (x - sigma * m) / alpha
    if prediction == "velocity":
        return alpha * x - sigma * m
    if prediction == "score":
        return (x + sigma**2 * m) / alpha
    return m


def bounded(x0: Array, clip: str) -> Array:
    """Ho et al. 2020's clipping, or Saharia et al. 2022's dynamic thresholding at the 90th percentile."""
    if clip == "no clip":
        return x0
    if clip == "clip":
        return np.clip(x0, -1, 1)
    images = []
    for image in x0:
        s = max(1.0, float(np.percentile(np.abs(image), 90)))
        images.append(np.clip(image, -s, s) / s)
    return np.stack(images)


def reference_x0(prediction: str, clip: str) -> ToX0:
    """(x, t, abar) -> the bounded clean image."""
    return lambda x, t, abar: bounded(clean(prediction, x, network(x, t), abar), clip)


def agree(name: str, prediction: str, options: dict[str, object], reference: Array, steps: int = N) -> None:
    table = samplers.step_table(name, PROCESS, prediction, steps, options)
    x, z = noises(table.num_noises)
    np.testing.assert_allclose(walk(table, x, z, network), reference, rtol=1e-8, atol=1e-8)


def sigma_of(t: float) -> float:
    """Between whole times log(sigma) is linear, as in k-diffusion."""
    return math.exp(np.interp(t, np.arange(1000), 0.5 * np.log((1 - ABAR) / ABAR)))


def karras_sigmas(n: int) -> list[float]:
    """Karras et al. 2022, eq. 5."""
    low, high = sigma_of(0) ** (1 / 7), sigma_of(999) ** (1 / 7)
    return [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]


def sigmas_of_grid(grid: str) -> list[float]:
    return karras_sigmas(N) if grid == "karras" else [sigma_of(t) for t in INTEGER_GRIDS[grid]][::-1]


def denoiser(prediction: str, clip: str) -> Callable[[Array, float], Array]:
    """D(x_hat, sigma) of k-diffusion: the state is x_hat = x sqrt(1 + sigma^2), the noise level sigma."""

    def denoise(x_hat: Array, sigma: float) -> Array:
        t = np.interp(math.log(sigma), 0.5 * np.log((1 - ABAR) / ABAR), np.arange(1000))
        x, abar = x_hat / math.sqrt(1 + sigma**2), 1 / (1 + sigma**2)
        return bounded(clean(prediction, x, network(x, t), abar), clip)

    return denoise


def ddpm(x0_at: ToX0, kept: list[int], variance: str, x: Array, z: list[Array]) -> Array:
    """Ho et al. 2020, eq. 6-7, with the respaced betas of Nichol & Dhariwal 2021, eq. 19. `kept` rises."""
    abars = ABAR[kept]
    previous = np.append(1.0, abars[:-1])
    betas = 1 - abars / previous
    for i in reversed(range(len(kept))):
        x0 = x0_at(x, kept[i], abars[i])
        mean = math.sqrt(previous[i]) * betas[i] / (1 - abars[i]) * x0
        mean = mean + math.sqrt(1 - betas[i]) * (1 - previous[i]) / (1 - abars[i]) * x
        small = betas[i] * (1 - previous[i]) / (1 - abars[i])
        x = mean if i == 0 else mean + math.sqrt(small if variance == "fixed_small" else betas[i]) * z.pop(0)
    return x


def euler(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Karras et al. 2022, algorithm 1 without lines 6-8."""
    x = x * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in pairwise([*sigmas, 0.0]):
        x = x + (following - sigma) * (x - denoise(x, sigma)) / sigma
    return x
