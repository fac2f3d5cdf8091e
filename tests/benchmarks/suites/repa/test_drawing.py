"""The images of a checkpoint, against Euler's method by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comparisons import CPU

from dbench.core.record import Result
from dbench.quality.frechet import frechet_distance
from dbench.suites.repa import drawing, plan
from dbench.suites.repa.eyes import of_network, of_pixels
from dbench.suites.repa.real import open_real
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from drun.diffusion.noise import PhiloxNoise
from drun.errors import NotFiniteError
from dtrain import published, teachers


@pytest.fixture
def denoiser(result: Result, settings: RepaSettings) -> published.Denoiser:
    """The final network, perturbed: the output layer of a fresh one is nearly zero, and labels would not matter."""
    loaded = published.load(settings.runs / "plain-seed3" / "digits-sit-0000004.pt")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in loaded.network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return loaded


def test_images_are_of_every_class_in_turn_and_do_not_depend_on_how_many_are_drawn(
    denoiser: published.Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = drawing.draw(denoiser, range(12), 3, CPU)
    assert (images.shape, images.dtype) == ((12, 16, 16, 1), np.uint8)
    monkeypatch.setattr(drawing, "BATCH", 5)
    in_parts = drawing.draw(denoiser, range(12), 3, CPU)
    assert np.abs(images.astype(int) - in_parts).max() <= 1
    by_hand = euler(denoiser, 11, label=1, num_steps=3)
    assert np.abs(images[11, :, :, 0] - by_hand).max() <= 1
    assert np.abs(images[11, :, :, 0] - euler(denoiser, 11, label=2, num_steps=3)).max() > 1


@torch.no_grad()
def euler(denoiser: published.Denoiser, index: int, label: int, num_steps: int) -> np.ndarray:
    """x <- x + velocity dt from t = 1 to 0: grey levels (H, W)."""
    x = torch.from_numpy(PhiloxNoise(drawing.NOISE_SEED, [index], (1, 16, 16))())
    for step in range(num_steps):
        t = torch.tensor([1 - step / num_steps])
        x = x - denoiser.network(x, t, torch.tensor([label])) / num_steps
    return np.asarray((x[0, 0] * 127.5 + 127.5).round().clamp(0, 255))


def test_a_network_that_diverged_is_named(denoiser: published.Denoiser) -> None:
    with torch.no_grad():
        next(denoiser.network.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite between steps 1 and 2 of 2"):
        drawing.draw(denoiser, range(2), 2, CPU)


def test_distances_are_of_the_same_images_and_are_kept(
    result: Result, settings: RepaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = open_real(plan.plain_recipe(settings, 3), 12, silent)
    teacher = teachers.load(settings.features, 16, CPU)
    eyes = [of_network(teacher, real, 12), of_pixels(real, 12)]
    path = settings.runs / "plain-seed3" / "digits-sit-0000002.pt"
    images = drawing.draw(published.load(path), range(12), 2, CPU)
    expected = {one.kind: frechet_distance(one.see(images), one.see(real.reference)) for one in eyes}
    monkeypatch.setattr(drawing, "draw", None)
    assert drawing.distances(path, eyes, 12, 2, CPU) == pytest.approx(expected)
