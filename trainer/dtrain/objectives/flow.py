"""Flow matching on an interpolant (Lipman et al. 2023; SiT: Ma et al. 2024): velocity, noise, x0 or score."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.diffusion.prediction import COMPONENTS, components
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError
from dtrain.objectives import Batch, Denoising, Losses, Predict

TIMES = ("uniform", "logit_normal")


class Objective(Denoising):
    """Mean over batch and pixels of |network(x_t, t) - target|^2; the error of a score is times sigma, as of the noise.

    Args:
        process: the interpolant.
        device: unused; tables of a continuous time do not exist.
        prediction: velocity, noise, x0 or score.
        times: `uniform`, or `logit_normal`: sigma/alpha = e^n with n ~ N(0, 1) (Esser et al. 2024, eq. 19).
        time_shift: s > 1 moves the depth in noise d to s d / (1 + (s - 1) d) (Esser et al. 2024, eq. 23); 1 is off.
        contrastive: lambda of contrastive flow matching (Stoica et al. 2025, eq. 6): minus lambda times the distance
            to the target of the next image of the process's batch; 0 is off.

    Raises:
        ConfigError: an unknown choice, or a process with timesteps, or a prediction that its ends do not bear.
    """

    def __init__(
        self,
        process: Process,
        device: torch.device,
        prediction: str = "velocity",
        times: str = "uniform",
        time_shift: float = 1.0,
        contrastive: float = 0.0,
    ) -> None:
        if not isinstance(process, FlowProcess):
            raise ConfigError("objective flow needs a process of kind flow: use objective ddpm")
        for key, value, choices in (("prediction", prediction, COMPONENTS), ("times", times, TIMES)):
            if value not in choices:
                raise ConfigError(f"objective.{key} got '{value}', expected one of {', '.join(choices)}")
        if time_shift <= 0:
            raise ConfigError(f"objective.time_shift got {time_shift}, expected above 0; 1 is off")
        if process.margin == 0 and (prediction in ("noise", "score") or process.path == "vp"):
            raise ConfigError(
                f"{prediction} on the path {process.path} is unbounded or undefined at its ends: "
                "set process.margin=0.001"
            )
        self.process, self.prediction, self.law = process, prediction, times
        self.time_shift, self.contrastive = time_shift, contrastive

    def losses(self, predict: Predict, batch: Batch) -> Losses:
        x0 = batch.x0
        t = self.times(batch)
        noise = batch.draws.normal(*x0.shape[1:])
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        rows = (alpha, sigma, *components(self.prediction, self.process, t))
        alpha_, sigma_, of_x0, of_noise = _to_device(np.stack(rows), x0.device)[:, :, None, None, None]
        target = of_x0 * x0 + of_noise * noise
        time = _to_device(t, x0.device)
        output = predict(alpha_ * x0 + sigma_ * noise, time, batch.labels).float()
        _check_shape(output, x0)
        root_weight = sigma_ if self.prediction == "score" else 1.0
        denoising = ((root_weight * (output - target)) ** 2).mean()
        if self.contrastive == 0:
            return {"loss": denoising}
        apart = ((root_weight * (output - target.roll(1, dims=0))) ** 2).mean()
        return {"loss": denoising - self.contrastive * apart, "denoising": denoising.detach(), "apart": apart.detach()}

    def times(self, batch: Batch) -> NDArray[np.float64]:
        """(N,) model times within the process's margins."""
        process = self.process
        if self.law == "logit_normal":
            depth = process.depth(process.time(np.exp(batch.draws.times(normal=True))))
        else:
            depth = batch.draws.times()
        depth = self.time_shift * depth / (1 + (self.time_shift - 1) * depth)
        depth = process.margin + (process.deepest - process.margin) * depth
        return process.at_depth(depth)


def _check_shape(output: Tensor, x0: Tensor) -> None:
    """Refuse outputs of another shape: broadcasting would compare one channel with two without an error."""
    if output.shape != x0.shape:
        raise ConfigError(
            f"the network has {output.shape[1]} output channels, objective flow needs {x0.shape[1]}: choose a model "
            "without a learned variance, such as SiT"
        )


def _to_device(values: NDArray[np.float64], device: torch.device) -> Tensor:
    """Move numbers to the device as float32, without making the device wait."""
    host = torch.from_numpy(values.astype(np.float32))
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
