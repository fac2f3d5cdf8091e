"""Cross-entropy of clean images, against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from dtrain import objectives
from dtrain.draws import Draws
from dtrain.objectives import Batch, Losses

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 2, 1, 2, 0])


def batch(labels: Tensor | None = LABELS) -> Batch:
    x0 = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(x0, labels, Draws(0, 3, 5, slice(0, 5), CPU), 3)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def losses(process: DiscreteProcess, **options: float) -> Losses:
    with torch.no_grad():
        return objectives.build({"name": "classify", **options}, process, CPU).loss(network(), batch())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_accuracy_against_their_formulas(process: DiscreteProcess, smoothing: float) -> None:
    """Szegedy et al. 2016: the wanted probability is 1 - s for the label, and s / K more for each class."""
    logits = network()(batch().x0).detach().double().numpy()
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    found = losses(process, label_smoothing=smoothing)
    assert float(found["loss"]) == pytest.approx(-(wanted * log_share).sum(axis=1).mean(), rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx((logits.argmax(axis=1) == LABELS.numpy()).mean())


def test_the_noise_is_that_of_the_step(process: DiscreteProcess) -> None:
    noise = batch().draws.normal(1, 4, 4)
    logits = network()(batch().x0 + 0.5 * noise)
    expected = nn.functional.cross_entropy(logits, LABELS).detach()
    assert float(losses(process, noise=0.5)["loss"]) == pytest.approx(float(expected))
    assert float(losses(process)["loss"]) != pytest.approx(float(expected))


def test_images_without_labels_are_refused(process: DiscreteProcess) -> None:
    with pytest.raises(ConfigError, match="objective classify needs labels: give data with a folder for each class"):
        objectives.build({"name": "classify"}, process, CPU).loss(network(), batch(None))
