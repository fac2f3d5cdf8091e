"""Checkpoints of dtrain: the recipe says all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from drun.bundle.card import Classes, Sampler
from drun.bundle.manifest import TrainedOn
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import config, models, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint, content_digest

LATENT = {"vae": "a-vae", "scale": [0.5] * 4, "bias": [0.1] * 4}
TINY_SIT = {"input_size": 4, "size": {"hidden_size": 24, "depth": 2, "num_heads": 3}, "channels": 4, "num_classes": 5}
FLOW = {"kind": "flow", "path": "cosine", "noise_time": 0, "margin": 0.0}
CHAIN = {"kind": "discrete", "schedule": "cosine", "num_timesteps": 50}


def unet(**config: Any) -> torch.nn.Module:
    return models.build({"name": "TwoResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 1} | config).eval()


def ours(folder: Path, network: torch.nn.Module, **sections: Any) -> Path:
    """A checkpoint of ours whose online weights are the network's, and whose averaged ones are larger by 0.5."""
    recipe = config.load("digits-unet").to_dict()
    recipe["model"] = network.config
    for section, values in sections.items():
        recipe[section] = recipe[section] | values if section == "data" else values
    state = network.state_dict()
    averaged = {key: value + 0.5 for key, value in state.items()}
    projector = {"projectors.0.4.weight": torch.zeros(7, 3)} if "teachers" in recipe["objective"] else {}
    saved = Checkpoint(config.from_dict(recipe), 9, state, averaged, {}, projector)
    return checkpoint.save(saved, folder, keep=1)


def transformer(name: str = "SiT", **settings: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    network = models.build({"name": name, **TINY_SIT, **settings}).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize("weights", ["ema", "online"])
def test_our_unets(tmp_path: Path, weights: str) -> None:
    network = unet()
    law = {"law": "constant", "decay": 0.9, "every": 2}
    path = ours(tmp_path, network, process=CHAIN, objective={"name": "ddpm", "prediction": "velocity"}, ema=law)
    found = published.load(path, weights)
    assert (found.card.process, found.card.prediction) == (DiscreteProcess("cosine", 50), "velocity")
    assert (found.card.data.shape, found.step, found.weights) == ((1, 16, 16), 9, weights)
    assert found.initial_share == (pytest.approx(0.9**4) if weights == "ema" else None)
    assert (found.card.sampler, found.card.data.latent) == (Sampler("ddpm", {"clip_x0": True}), None)
    assert (found.card.classes, found.card.variance, found.card.guided_channels) == (None, None, None)
    assert found.reasons == ("a checkpoint of dtrain, recipe digits-unet", f"{weights} weights")
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias + (0.5 if weights == "ema" else 0))
    assert published.load(path, settings={"image_size": "32"}).card.data.shape == (1, 32, 32)


@pytest.mark.parametrize(("noise_time", "form"), [(0, "sit"), (1, "repa")])
@pytest.mark.parametrize("latent", [{}, LATENT])
def test_our_flows(tmp_path: Path, noise_time: int, form: str, latent: dict[str, Any]) -> None:
    network, process = transformer(), FLOW | {"noise_time": noise_time}
    data = {"image_size": 32 if latent else 4, "latent": latent, "label_dropout": 0.1}
    found = published.load(ours(tmp_path, network, process=process, objective={"name": "flow"}, data=data), "online")
    assert (found.card.process, found.card.prediction) == (FlowProcess("cosine", noise_time), "velocity")
    assert found.card.sampler == Sampler("euler_maruyama", {"form": form})
    assert (found.card.data.shape, found.card.classes, found.card.guided_channels) == ((4, 4, 4), Classes(5, 5), None)
    assert found.card.data.latent == ({"vae": "a-vae", "scale": (0.5,) * 4, "bias": (0.1,) * 4} if latent else None)
    x, t, y = torch.randn(2, 4, 4, 4), torch.tensor([0.2, 0.9]), torch.tensor([0, 5])
    assert torch.equal(found.network(x, t, y), network(x, t, y))


@pytest.mark.parametrize(("name", "variance"), [("DiT", "learned_range"), ("SiT", None)])
@pytest.mark.parametrize("latent", [{}, LATENT])
def test_our_chains(tmp_path: Path, name: str, variance: str | None, latent: dict[str, Any]) -> None:
    network = transformer(name, null_class=False)
    path = ours(tmp_path, network, process=CHAIN, objective={"name": "ddpm"}, data={"latent": latent})
    found = published.load(path)
    assert (found.card.variance, found.card.prediction) == (variance, "noise")
    learned = {"variance": variance} if variance else {}
    assert found.card.sampler == Sampler("ddpm", {**learned, "clip_x0": not latent})
    assert found.card.classes == Classes(5, None)


def test_a_null_label_that_was_never_trained_is_none(tmp_path: Path) -> None:
    path = ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"}, data={"label_dropout": 0.0})
    assert published.load(path).card.classes == Classes(5, None)


def test_the_images_that_it_learned_from(tmp_path: Path) -> None:
    """The last of five classes has no name: it is called by its number."""
    seen = {"source": "photos", "class_names": ["a", "b", "c", "d"], "num_images": 70, "fingerprint": "1f"}
    path = ours(tmp_path, transformer(channels=1), process=FLOW, objective={"name": "flow"}, data=seen)
    found = published.load(path)
    assert found.card.classes == Classes(5, None, ("a", "b", "c", "d", "4"))
    assert found.trained_on == TrainedOn("photos", 70, 16, 1, "1f")
    latent = published.load(ours(tmp_path, transformer(), process=FLOW, data=seen | {"latent": LATENT}))
    assert latent.trained_on == TrainedOn("photos", 70, 16, 3, "1f")  # of pictures, which are in colour


def test_an_older_checkpoint_does_not_say_what_it_learned_from(tmp_path: Path) -> None:
    assert published.load(ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"})).trained_on is None


def test_our_repa_leaves_its_projectors_and_an_unconditional_one_has_no_classes(tmp_path: Path) -> None:
    objective = {"name": "repa", "base": {"name": "flow", "prediction": "noise"}, "teachers": ["dinov2-vit-b"]}
    path = ours(tmp_path, transformer(num_classes=0), process=FLOW, objective=objective)
    found = published.load(path)
    assert (found.card.prediction, found.card.classes) == ("noise", None)
    assert "projectors to a teacher of 7 dimensions dropped: they are for training" in found.reasons


def test_our_checkpoints_say_all_but_an_image_size(tmp_path: Path) -> None:
    path = ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"}, data={"latent": LATENT})
    with pytest.raises(ConfigError, match=r"--set process has no use for '.*', whose recipe says all else"):
        published.load(path, settings={"process": "sit"})
    assert "image_size=16 ignored" in published.load(path, settings={"image_size": "16"}).reasons[-1]
    assert published.load(path, settings={"image_size": "32"}).reasons == published.load(path).reasons
    damaged = torch.load(path) | {"ema": [1]}
    torch.save(damaged | {"sha256": content_digest(damaged)}, path)
    with pytest.raises(CheckpointError, match=r"is damaged: checkpoint.ema got \[1\], expected dict; copy it again"):
        published.load(path)


def test_a_latent_that_is_not_whole(tmp_path: Path) -> None:
    path = ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"}, data={"latent": {"vae": "a-vae"}})
    with pytest.raises(CheckpointError, match=r"cannot be built: data\.latent lacks bias, scale; copy it again"):
        published.load(path)


def test_our_teachers_are_no_denoisers(tmp_path: Path) -> None:
    sizes = {"image_size": 4, "patch_size": 2, "channels": 1, "num_classes": 3}
    network = models.build({"name": "ViT", **sizes, "hidden_size": 8, "depth": 1, "num_heads": 2})
    with pytest.raises(CheckpointError, match="holds a ViT, which classifies images: it is a teacher, not a denoiser"):
        published.load(ours(tmp_path, network, objective={"name": "classify"}))


def test_a_u_net_with_a_learned_variance(tmp_path: Path) -> None:
    path = ours(tmp_path, unet(out_dim=2), process=CHAIN, objective={"name": "ddpm", "learned_variance": True})
    card = published.load(path).card
    assert (card.variance, card.data.shape, card.output_shape) == ("learned_range", (1, 16, 16), (2, 16, 16))
    assert card.sampler == Sampler("ddpm", {"variance": "learned_range", "clip_x0": True})


def test_a_u_net_of_latents_is_smaller_than_its_images(tmp_path: Path) -> None:
    path = ours(tmp_path, unet(channels=4), process=CHAIN, data={"image_size": 64, "latent": LATENT})
    assert published.load(path).card.data.shape == (4, 8, 8)
    assert published.load(path, settings={"image_size": "128"}).card.data.shape == (4, 16, 16)
    with pytest.raises(ConfigError, match="got 9x9 pixels, expected sides divisible by 2"):
        published.load(path, settings={"image_size": "72"})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"latent": LATENT | {"scale": [0.5] * 3}}}, "the latents' scale has 3 values, expected 4"),
        ({"objective": {"name": "flow", "prediction": "cat"}}, "prediction got 'cat', expected one of"),
    ],
)
def test_a_recipe_that_describes_no_model(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    path = ours(tmp_path, transformer(), **({"process": FLOW, "objective": {"name": "flow"}} | sections))
    with pytest.raises(CheckpointError, match=rf"'.*\.pt' describes no model: {message}"):
        published.load(path)
