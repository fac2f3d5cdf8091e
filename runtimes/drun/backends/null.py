"""The exact denoiser of a Gaussian. It needs no files and almost no work, so it tests samplers and times the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.diffusion.prediction import components
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

#: The images of class y are N(mean_y, STD^2), mean_y = CLASS_STEP * y; without classes the mean is 0.
STD = 0.5
CLASS_STEP = 0.1


class Runtime(Backend):
    summary = f"closed-form denoiser of Gaussian images of standard deviation {STD}"
    formats = ()

    @staticmethod
    def probe() -> Probe:
        return Probe(True, "built in")

    def __init__(
        self,
        bundle: Bundle,
        artifact: Artifact | None = None,
        arithmetic: str = "fp32",
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        card = bundle.manifest.card
        self.process, self.prediction, self.variance = card.process, card.prediction, card.variance

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """E[x_0 | x_t] = mean + alpha STD^2 (x - alpha mean) / (alpha^2 STD^2 + sigma^2), as the prediction.

        A learned variance lies halfway between its bounds: v = 0.
        """
        x, t, *labels = inputs
        time = float(t[0])
        alpha, sigma = float(self.process.alpha(time)), float(self.process.sigma(time))
        mean: Any = (CLASS_STEP * labels[0].reshape(-1, 1, 1, 1)).astype(np.float32) if labels else 0.0
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        of_x0, of_noise = (float(of) for of in components(self.prediction, self.process, time))
        # m = A x_0 + B (x - alpha x_0) / sigma with x_0 = gain x + (1 - gain alpha) mean
        slope = of_x0 - of_noise * alpha / sigma
        out = (slope * gain + of_noise / sigma) * x + slope * (1 - gain * alpha) * mean
        return out if self.variance is None else np.concatenate([out, np.zeros_like(out)], axis=1)
