"""Classification of clean images by cross-entropy, which trains a small teacher of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from drun.diffusion.process import Process
from drun.errors import ConfigError
from dtrain.objectives import Batch, Losses, Plain


class Objective(Plain):
    """Mean cross-entropy of the network's logits.

    Args:
        process, device: unused.
        label_smoothing: share of the probability spread evenly over all classes (Szegedy et al. 2016, section 7).
        noise: standard deviation of noise added to the images, which makes the features robust.
    """

    prediction = None

    def __init__(
        self, process: Process, device: torch.device, label_smoothing: float = 0.0, noise: float = 0.0
    ) -> None:
        self.label_smoothing, self.noise = label_smoothing, noise

    def wrap(self, network: nn.Module) -> nn.Module:
        if getattr(network, "classes", None) is None:
            raise ConfigError("objective classify needs a model with classes: set model.num_classes")
        return network

    def loss(self, module: nn.Module, batch: Batch) -> Losses:
        if batch.labels is None:
            raise ConfigError("objective classify needs labels: give data with a folder for each class")
        x = batch.x0 + self.noise * batch.draws.normal(*batch.x0.shape[1:])
        logits = module(x).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == batch.labels).float().mean()}
