"""Masked autoencoding against its definition, patch by patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import perturb
from torch import nn

from drun.console import silent
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from dtrain import config, device, objectives, teachers
from dtrain.draws import Draws
from dtrain.models import build
from dtrain.objectives import Batch
from dtrain.train.loop import train

CPU = torch.device("cpu")
SIDE, PATCH, CHANNELS, TOKENS = 8, 2, 3, 16
VIT = {
    "name": "ViT", "image_size": SIDE, "patch_size": PATCH, "channels": CHANNELS, "num_classes": 0, "hidden_size": 16,
    "depth": 2, "num_heads": 2,
}  # fmt: skip


@pytest.fixture
def module(process: DiscreteProcess) -> nn.Module:
    torch.manual_seed(0)
    objective = objectives.build({"name": "mae", "decoder_width": 16, "decoder_depth": 1}, process, CPU)
    return perturb(objective.wrap(build(VIT)))


def images(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def orders() -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.stack([torch.randperm(TOKENS, generator=generator) for _ in range(3)])


def patch_of(x: torch.Tensor, place: int) -> tuple[slice, slice]:
    row, column = divmod(place, SIDE // PATCH)
    return slice(row * PATCH, (row + 1) * PATCH), slice(column * PATCH, (column + 1) * PATCH)


def test_the_loss_is_of_the_hidden_patches_normalised(module: nn.Module) -> None:
    """He et al. 2022, section 4: a quarter is shown; each hidden patch has mean 0 and spread 1."""
    x, order = images(), orders()
    with torch.no_grad():
        tokens = module.network.encode(torch.stack([module.network.embed(x)[i, order[i, :4]] for i in range(3)]))
        painted = module.decoder(tokens, order)
        assert painted.shape == (3, 12, CHANNELS * PATCH**2)
        errors = []
        for i in range(3):
            for k, place in enumerate(order[i, 4:].tolist()):
                patch = x[i][(slice(None), *patch_of(x, place))].reshape(-1).double().numpy()
                wanted = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
                errors.append((painted[i, k].double().numpy() - wanted) ** 2)
        assert float(module(x, order)) == pytest.approx(np.mean(errors), rel=1e-5)


def test_the_encoder_sees_no_hidden_patch(module: nn.Module) -> None:
    x, order = images(), orders()
    other = x.clone()
    for i in range(3):
        for place in order[i, 4:].tolist():
            other[i][(slice(None), *patch_of(x, place))] = 0.3
    with torch.no_grad():
        seen = [torch.stack([module.network.embed(each)[i, order[i, :4]] for i in range(3)]) for each in (x, other)]
        assert torch.equal(module.network.encode(seen[0]), module.network.encode(seen[1]))
        assert float(module(x, order)) != float(module(other, order))


def test_what_is_painted_depends_on_where(module: nn.Module) -> None:
    """Hidden tokens differ by their places alone; the order of the shown ones does not matter."""
    x, order = images(), orders()
    mixed = order.clone()
    mixed[:, :4] = order[:, [2, 0, 3, 1]]
    with torch.no_grad():
        assert float(module(x, mixed)) == pytest.approx(float(module(x, order)), rel=1e-5)
        embedded = module.network.embed(x)
        painted = module.decoder(
            module.network.encode(torch.stack([embedded[i, order[i, :4]] for i in range(3)])), order
        )
    assert (painted[:, 0] - painted[:, 1]).abs().max() > 1e-3


def test_each_step_hides_others_whatever_the_number_of_processes(module: nn.Module, process: DiscreteProcess) -> None:
    objective = objectives.build({"name": "mae", "decoder_width": 16, "decoder_depth": 1}, process, CPU)
    objective.wrap(build(VIT))
    x = images()

    def losses(step: int, own: slice) -> float:
        with torch.no_grad():
            batch = Batch(x[own], None, Draws(0, step, 3, own, CPU), step)
            return float(objective.loss(module, batch)["loss"])

    assert losses(1, slice(0, 3)) != losses(2, slice(0, 3))
    parts = [losses(1, slice(i, i + 1)) for i in range(3)]
    assert losses(1, slice(0, 3)) == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_share": 1.0}, "hidden_share got 1.0, expected between 0 and 1"),
        ({"hidden_share": 0.99}, "which shows 0 of 16 patches"),
        ({"decoder_width": 6}, "got 6 and 2, expected a multiple of 4"),
        ({"decoder_depth": 0}, "got 64 and 0"),
    ],
)
def test_what_hides_nothing_or_is_no_decoder(options: dict[str, float], message: str, process: DiscreteProcess) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.build({"name": "mae", **options}, process, CPU).wrap(build(VIT))


def test_other_networks_are_refused(process: DiscreteProcess) -> None:
    objective = objectives.build({"name": "mae"}, process, CPU)
    with pytest.raises(ConfigError, match=r"trains a ViT without classes, got ViT: set model\.num_classes=0"):
        objective.wrap(build(VIT | {"num_classes": 3}))
    with pytest.raises(ConfigError, match="got CNN"):
        objective.wrap(build({"name": "CNN", "image_size": 8, "channels": 1, "num_classes": 2, "width": 32}))
    classify = objectives.build({"name": "classify"}, process, CPU)
    with pytest.raises(ConfigError, match="objective classify needs a model with classes"):
        classify.wrap(build(VIT))


def test_a_run_goes_on_with_its_decoder_and_becomes_a_teacher(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(256, size=(12, 28, 28), dtype=np.uint8))
    small = ["model.hidden_size=8", "model.depth=1", "model.num_heads=2", "train.batch_size=4", "train.log_every=1"]
    placement = device.choose("cpu", "fp32", "off")

    def recipe(steps: int) -> config.Recipe:
        lengths = [f"train.steps={steps}", "train.save_every=2", "optimizer.decay_share=0.0"]
        return config.load("fashion-teacher", [*small, *lengths], str(tmp_path / "images.npy"))

    whole = train(recipe(4), tmp_path / "whole", placement, False, silent)
    train(recipe(2), tmp_path / "parts", placement, False, silent)
    resumed = train(recipe(4), tmp_path / "parts", placement, True, silent)
    one, other = (teachers.load(str(path.parent), 28, CPU) for path in (whole, resumed))
    pictures = torch.randint(256, (2, 28, 28, 1), dtype=torch.uint8)
    assert one(pictures).shape == (2, 49, 8)
    assert torch.equal(one(pictures), other(pictures))
