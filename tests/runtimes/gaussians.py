"""The Gaussian images whose denoiser is the network of the tests' bundles, and its chain."""

from __future__ import annotations

import numpy as np

NUM_TIMESTEPS = 100
#: The images of class y are N(0.1 y, 0.5^2), as in the null backend.
STD, CLASS_STEP = 0.5, 0.1


def alphas_cumprod() -> np.ndarray:
    """Of the linear schedule (Ho et al. 2020), scaled to the number of timesteps: (NUM_TIMESTEPS,) float64."""
    scale = 1000 / NUM_TIMESTEPS
    return np.cumprod(1 - np.linspace(1e-4 * scale, 0.02 * scale, NUM_TIMESTEPS))


def slopes(gain: float = 1.0) -> np.ndarray:
    """What E[eps | x_t] of centred images multiplies x_t by, times `gain`: (NUM_TIMESTEPS,) float64."""
    abar = alphas_cumprod()
    return gain * np.sqrt(1 - abar) / (abar * STD**2 + 1 - abar)
