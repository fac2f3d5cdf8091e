"""The samplers of REPA, SiT and DiT as loops written from the papers' formulas, in float64: references for tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

Array = np.ndarray
#: (x, time) -> the network's output
Network = Callable[[Array, float], Array]


def repa_scales(path: str, t: float) -> tuple[float, float, float, float]:
    """alpha, sigma and their derivatives in REPA's time (facts 2.1)."""
    if path == "linear":
        return 1 - t, t, -1.0, 1.0
    if path == "vp":  # beta from 0.1 to 20 (Song et al. 2021, eq. 29-33)
        alpha, d_log_alpha = math.exp(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1), -0.5 * t * 19.9 - 0.5 * 0.1
        sigma = math.sqrt(1 - alpha**2)
        return alpha, sigma, alpha * d_log_alpha, -(alpha**2) * d_log_alpha / sigma
    angle = math.pi * t / 2
    return math.cos(angle), math.sin(angle), -math.pi / 2 * math.sin(angle), math.pi / 2 * math.cos(angle)


def repa_score(path: str, v: Array, x: Array, t: float) -> Array:
    """s = ((alpha/alpha') v - x) / (sigma^2 - (alpha/alpha') sigma' sigma)."""
    alpha, sigma, d_alpha, d_sigma = repa_scales(path, t)
    return (alpha / d_alpha * v - x) / (sigma**2 - alpha / d_alpha * d_sigma * sigma)


def repa_sde(path: str, velocity: Network, x: Array, z: list[Array], num_steps: int) -> Array:
    """Drift v - (2t/2) s, noise sqrt(2t |dt|); the last step from 0.04 without noise."""
    times = [*np.linspace(1, 0.04, num_steps), 0.0]
    for t, following in pairwise(times):
        v = velocity(x, t)
        x = x + (following - t) * (v - t * repa_score(path, v, x, t))
        if following > 0:
            x = x + math.sqrt(2 * t * (t - following)) * z.pop(0)
    return x


def sit_sde(path: str, form: str, last_step: str, velocity: Network, x: Array, z: list[Array], num_steps: int) -> Array:
    """SiT's time: drift v + w s, noise sqrt(2 w dt), from noise at 0 to data at 1."""
    start = 1e-3 if form == "sbdm" and path != "vp" else 0.0
    if last_step == "none":
        times = list(np.linspace(start, 1, num_steps + 1))
    else:
        times = [*np.linspace(start, 0.96, num_steps), 1.0]
    for i, (t, following) in enumerate(pairwise(times)):
        alpha, sigma, d_alpha, d_sigma = repa_scales(path, 1 - t)
        d_alpha, d_sigma = -d_alpha, -d_sigma
        v = velocity(x, t)
        s = (alpha / d_alpha * v - x) / (sigma**2 - alpha / d_alpha * d_sigma * sigma)
        w = {
            "constant": 1.0,
            "sbdm": d_alpha / alpha * sigma**2 - sigma * d_sigma if alpha else math.nan,
            "sigma": sigma,
            "linear": 1 - t,
            "decreasing": 0.25 * (math.cos(math.pi * t) + 1) ** 2,
            "increasing_decreasing": math.sin(math.pi * t) ** 2,
        }[form]
        dt = following - t
        last = i == num_steps - 1
        if last and last_step == "tweedie":
            x = x / alpha + sigma**2 / alpha * s
        elif last and last_step == "euler":
            x = x + v * dt
        else:
            x = x + (v + w * s) * dt
            if not last or last_step == "none":
                x = x + math.sqrt(2 * w * dt) * z.pop(0)
    return x


def dit(denoise: Network, x: Array, z: list[Array], num_steps: int) -> Array:
    """Facts 3.3: respaced chain, learned-range variance, no clipping; float64."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    stride, place, kept = 999 / (num_steps - 1), 0.0, []
    for _ in range(num_steps):
        kept.append(round(place))
        place += stride
    kept_abar = abar[kept]
    previous = np.append(1.0, kept_abar[:-1])
    betas = 1 - kept_abar / previous
    posterior = betas * (1 - previous) / (1 - kept_abar)
    clipped = np.log(np.append(posterior[1], posterior[1:]))
    for i in reversed(range(num_steps)):
        out = denoise(x, float(kept[i]))
        eps, v = np.split(out, 2, axis=1)
        x0 = math.sqrt(1 / kept_abar[i]) * x - math.sqrt(1 / kept_abar[i] - 1) * eps
        mean = betas[i] * math.sqrt(previous[i]) / (1 - kept_abar[i]) * x0
        mean = mean + (1 - previous[i]) * math.sqrt(1 - betas[i]) / (1 - kept_abar[i]) * x
        share = (v + 1) / 2
        log_variance = share * np.log(betas[i]) + (1 - share) * clipped[i]
        x = mean + (np.exp(0.5 * log_variance) * z.pop(0) if i else 0)
    return x
