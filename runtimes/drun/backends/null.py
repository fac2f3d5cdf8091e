"""The exact denoiser of a Gaussian: no files and almost no work, so it tests samplers and times the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drun.backends import Backend, Probe
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Array
from drun.diffusion.prediction import components

#: The images of class y are N(mean_y, STD^2), mean_y = CLASS_STEP * y; without classes the mean is 0.
STD = 0.5
CLASS_STEP = 0.1


class Runtime(Backend):
    summary = f"closed-form denoiser of Gaussian images of standard deviation {STD}"
    formats = ()

    @staticmethod
    def probe() -> Probe:
        return Probe(True, "built in")

    def __init__(self, bundle: Bundle, artifact: Artifact | None, options: Mapping[str, Any]) -> None:
        self.process, self.prediction = bundle.process, bundle.manifest.prediction
        self.variance = bundle.manifest.variance

    def predict(self, x: Array, t: Array, y: Array | None) -> Array:
        """E[x_0 | x_t] = mean + alpha STD^2 (x - alpha mean) / (alpha^2 STD^2 + sigma^2), as the prediction.

        A learned variance lies halfway between its bounds: v = 0.
        """
        time = float(t[0])
        alpha, sigma = float(self.process.alpha(time)), float(self.process.sigma(time))
        mean = 0.0 if y is None else (CLASS_STEP * y.reshape(-1, 1, 1, 1)).astype("float32")
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        of_x0, of_noise = (float(of) for of in components(self.prediction, self.process, time))
        # m = A x_0 + B (x - alpha x_0) / sigma with x_0 = gain x + (1 - gain alpha) mean
        slope = of_x0 - of_noise * alpha / sigma
        out = (slope * gain + of_noise / sigma) * x + slope * (1 - gain * alpha) * mean
        return out if self.variance is None else np.concatenate([out, np.zeros_like(out)], axis=1)
