"""Denoising of a discrete process (Ho et al. 2020, eq. 14): noise, x0 or velocity prediction, MSE or L1.

With a learned variance the hybrid loss of improved DDPM (Nichol & Dhariwal 2021, section 3.1), as DiT trains.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drun.diffusion.prediction import COMPONENTS, LEARNED_RANGE, components, x0_coefficients
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.samplers import ddpm
from drun.errors import ConfigError
from dtrain.objectives import Batch, Denoising, Losses, Predict

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}
TIMESTEPS = ("per_image", "per_batch")
#: Half the distance of two 8-bit levels in [-1, 1].
HALF_LEVEL = 1 / 255


class Objective(Denoising):
    """Mean over the batch of weight(t) loss(network(x_t, t), target).

    Args:
        process: the noising law.
        device: the device of its tables.
        prediction: noise, x0, velocity or score.
        loss: mse or l1.
        timesteps: `per_image` draws t for each image, `per_batch` one for all (as the article's code does).
        min_snr_gamma: the weight is that of min(SNR, gamma) (Hang et al. 2023, section 3.4); 0 is off.
        learned_variance: whether the network has as many channels again, trained by the variational bound.

    Raises:
        ConfigError: an unknown choice, or a process without timesteps.
    """

    def __init__(
        self,
        process: Process,
        device: torch.device,
        prediction: str = "noise",
        loss: str = "mse",
        timesteps: str = "per_image",
        min_snr_gamma: float = 0.0,
        learned_variance: bool = False,
    ) -> None:
        if not isinstance(process, DiscreteProcess):
            raise ConfigError("objective ddpm needs a process of kind discrete: use objective flow")
        for key, value, choices in (
            ("prediction", prediction, COMPONENTS),
            ("loss", loss, LOSSES),
            ("timesteps", timesteps, TIMESTEPS),
        ):
            if value not in choices:
                raise ConfigError(f"objective.{key} got '{value}', expected one of {', '.join(choices)}")
        self.prediction, self.per_image, self.distance = prediction, timesteps == "per_image", LOSSES[loss]
        self.num_timesteps = process.num_timesteps
        t = np.arange(process.num_timesteps)
        snr = process.ratio(t) ** -2.0
        weights = [_weight(prediction, float(each), min_snr_gamma) for each in snr]

        def table(*columns: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
            return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)).to(device)

        self.noising = table(process.alpha(t), process.sigma(t))  # (T, 2)
        self.target = table(*components(prediction, process, t))  # (T, 2): the coefficients of x0 and of noise
        self.weight = table(np.array(weights))[:, 0]  # (T,)
        self.bound = VariationalBound(process, prediction, device) if learned_variance else None

    def losses(self, predict: Predict, batch: Batch) -> Losses:
        x0, draws = batch.x0, batch.draws
        t = draws.integers(self.num_timesteps, per_image=self.per_image)
        noise = draws.normal(*x0.shape[1:])
        x = _mix(self.noising[t], x0, noise)
        output = predict(x, t, batch.labels).float()
        self._check_channels(output, x0)
        mean = output[:, : x0.shape[1]]
        losses = self.distance(mean, _mix(self.target[t], x0, noise), reduction="none")
        denoising = (self.weight[t] * losses.flatten(1).mean(dim=1)).mean()
        if self.bound is None:
            return {"loss": denoising}
        bound = self.bound(x0, x, mean.detach(), output[:, x0.shape[1] :], t).mean()
        return {"loss": denoising + bound, "denoising": denoising.detach(), "bound_bits": bound.detach()}

    def _check_channels(self, output: Tensor, x0: Tensor) -> None:
        expected = x0.shape[1] * (1 if self.bound is None else 2)
        if output.shape[1] != expected:
            raise ConfigError(
                f"the network has {output.shape[1]} output channels, objective.learned_variance="
                f"{str(self.bound is not None).lower()} needs {expected}: change either"
            )


class VariationalBound:
    """The terms of the variational bound that depend on the variance, in bits a dimension.

    L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and at t = 0 the code length of 8-bit pixels (Ho et al. 2020,
    eq. 5 and 13), with the mean of p held fixed (Nichol & Dhariwal 2021, section 3.1).
    """

    def __init__(self, process: DiscreteProcess, prediction: str, device: torch.device) -> None:
        chain = ddpm.steps(process, process.num_timesteps, grid="leading", variance=LEARNED_RANGE)[::-1]
        # At t = 0 the posterior has no variance: the published networks were trained with that of t = 1.
        at_1 = chain[1].log_variance
        assert at_1 is not None
        bounds = [step.log_variance or (at_1[0], math.log(process.betas[0])) for step in chain]
        clean = [x0_coefficients(prediction, process, step.t) for step in chain]
        rows = [(step.b, *bound, *pq) for step, bound, pq in zip(chain, bounds, clean, strict=True)]
        self.table = torch.tensor(rows, dtype=torch.float64, device="cpu").to(device, torch.float32)  # (T, 5)

    def __call__(self, x0: Tensor, x: Tensor, output: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """x0, x, output, v: (N, C, H, W), t: (N,) -> (N,)."""
        b, log_min, log_max, p, q = self.table[t][:, :, None, None, None].unbind(1)
        estimate = p * x + q * output
        share = (v + 1) / 2
        log_variance = share * log_max + (1 - share) * log_min
        error = b * (x0 - estimate)
        divergence = 0.5 * (
            log_variance - log_min - 1 + torch.exp(log_min - log_variance) + error**2 * torch.exp(-log_variance)
        )
        nats = torch.where((t == 0)[:, None, None, None], pixel_code_length(x0, estimate, log_variance), divergence)
        return nats.flatten(1).mean(dim=1) / math.log(2)


def pixel_code_length(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of the mass that N(mean, exp(log_variance)) gives to the 8-bit level of x0 in [-1, 1]; nats, per element.

    The outermost levels reach to infinity (Ho et al. 2020, eq. 13).
    """
    scale = torch.exp(-0.5 * log_variance)
    above = torch.special.ndtr((x0 + HALF_LEVEL - mean) * scale)
    below = torch.special.ndtr((x0 - HALF_LEVEL - mean) * scale)
    upper = torch.where(x0 > 1 - HALF_LEVEL, torch.ones_like(above), above)
    lower = torch.where(x0 < -1 + HALF_LEVEL, torch.zeros_like(below), below)
    return -torch.log((upper - lower).clamp(min=1e-12))


def _mix(coefficients: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """(N, 2) coefficients of two (N, C, H, W) tensors -> their sum."""
    of_x0, of_noise = coefficients[:, :, None, None, None].unbind(1)
    return of_x0 * x0 + of_noise * noise


def _weight(prediction: str, snr: float, gamma: float) -> float:
    """min(SNR, gamma) in units of the prediction's own weight of 1 (Hang et al. 2023, section 3.4)."""
    if gamma == 0:
        return 1.0
    clipped = min(snr, gamma)
    return {"x0": clipped, "velocity": clipped / (snr + 1)}.get(prediction, clipped / snr)
