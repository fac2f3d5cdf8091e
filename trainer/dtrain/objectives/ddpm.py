"""Denoising of a discrete process (Ho et al. 2020, eq. 14): noise, x0 or velocity prediction, MSE or L1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drun.errors import ConfigError
from drun.prediction import COMPONENTS, components
from drun.process import DiscreteProcess

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}
TIMESTEPS = ("per_image", "per_batch")


class Objective:
    """Mean over the batch of weight(t) loss(network(x_t, t), target).

    Args:
        process: the noising law.
        device: where its tables live.
        prediction: noise, x0, velocity or score.
        loss: mse or l1.
        timesteps: `per_image` draws t for each image, `per_batch` one for all (as the article's code does).
        min_snr_gamma: the weight is that of min(SNR, gamma) (Hang et al. 2023, section 3.4); 0 is off.

    Raises:
        ConfigError: an unknown choice.
    """

    def __init__(
        self,
        process: DiscreteProcess,
        device: torch.device,
        prediction: str = "noise",
        loss: str = "mse",
        timesteps: str = "per_image",
        min_snr_gamma: float = 0.0,
    ) -> None:
        for key, value, choices in (
            ("prediction", prediction, COMPONENTS), ("loss", loss, LOSSES), ("timesteps", timesteps, TIMESTEPS),
        ):  # fmt: skip
            if value not in choices:
                raise ConfigError(f"objective.{key} got '{value}', expected one of {', '.join(choices)}")
        self.prediction, self.per_batch, self.distance = prediction, timesteps == "per_batch", LOSSES[loss]
        self.num_timesteps = process.num_timesteps
        t = [float(t) for t in range(process.num_timesteps)]
        pairs = list(zip(process.alpha(t).tolist(), process.sigma(t).tolist(), strict=True))
        targets = [components(prediction, alpha, sigma) for alpha, sigma in pairs]
        weights = [_weight(prediction, (alpha / sigma) ** 2, min_snr_gamma) for alpha, sigma in pairs]
        self.noising = torch.tensor(pairs, dtype=torch.float32, device=device)   # (T, 2): alpha, sigma
        self.target = torch.tensor(targets, dtype=torch.float32, device=device)  # (T, 2): of x0, of noise
        self.weight = torch.tensor(weights, dtype=torch.float32, device=device)  # (T,)

    def loss(self, network: nn.Module, x0: Tensor, generator: torch.Generator) -> Tensor:
        """x0: (N, C, H, W) float32 in [-1, 1] -> scalar float32. All randomness comes from `generator`."""
        n, device = len(x0), x0.device
        count = 1 if self.per_batch else n
        t = torch.randint(self.num_timesteps, (count,), generator=generator, device=device).expand(n)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        output = network(_mix(self.noising[t], x0, noise), t)
        losses = self.distance(output.float(), _mix(self.target[t], x0, noise), reduction="none")
        return (self.weight[t] * losses.flatten(1).mean(dim=1)).mean()


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
