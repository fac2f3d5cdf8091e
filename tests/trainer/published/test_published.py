from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from drun.bundle.card import Classes, Sampler
from drun.bundle.manifest import TrainedOn
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import config, models, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint, content_digest

SIZE = {"image_size": "16"}
T = torch.tensor([3.0])


def perturbed(name: str, **config: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    return models.build({"name": name, "dim": 8, "dim_mults": [1, 2], "channels": 3} | config).eval()


def article_checkpoint(network: torch.nn.Module, schedule: str = "linear") -> dict[str, Any]:
    """The layout of the aerial-imagery article: a bare `model`, and both networks with their buffers in `ema`."""
    ema = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    for owner, shift in (("online_model", 0.0), ("ema_model", 0.5)):
        ema[f"{owner}.betas"] = torch.tensor(DiscreteProcess(schedule).betas, dtype=torch.float32)
        ema |= {f"{owner}.model.{key}": value + shift for key, value in network.state_dict().items()}
    return {"step": 37_000, "model": network.state_dict(), "opt": {}, "ema": ema, "version": "1.0"}


@pytest.mark.parametrize("name", ["OneResUNet", "TwoResUNet", "AttentionUNet"])
@pytest.mark.parametrize("config", [{}, {"init_dim": 12, "channels": 1}, {"dim_mults": [1, 2, 3]}])
def test_a_bare_state_dict_is_recognised_by_keys_and_shapes(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    network = perturbed(name, **config)
    path = tmp_path / "bare.pt"
    torch.save(network.state_dict(), path)
    found = published.load(path, settings=SIZE)
    x = torch.randn(1, found.image_shape[0], 16, 16)
    assert found.config["name"] == name
    assert torch.equal(found.network(x, T), network(x, T))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_wrappers_prefixes_are_stripped(tmp_path: Path, prefix: str) -> None:
    network = perturbed("TwoResUNet")
    path = tmp_path / "wrapped.pt"
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(published.load(path, settings=SIZE).network(x, T), network(x, T))


def test_safetensors(tmp_path: Path) -> None:
    network = perturbed("OneResUNet")
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    assert published.load(tmp_path / "net.safetensors", settings=SIZE).config["name"] == "OneResUNet"


@pytest.mark.parametrize(("weights", "shift"), [("ema", 0.5), ("online", 0.0)])
def test_the_articles_checkpoint_gives_the_chosen_weights(tmp_path: Path, weights: str, shift: float) -> None:
    network = perturbed("TwoResUNet")
    path = tmp_path / "model-37.pt"
    torch.save(article_checkpoint(network), path)
    found = published.load(path, weights, SIZE)
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias + shift)
    assert (found.step, found.weights) == (37_000, weights)


@pytest.mark.parametrize("weights", ["ema", "online"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_the_schedule_is_recognised_by_its_betas(tmp_path: Path, schedule: str, weights: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(article_checkpoint(perturbed("TwoResUNet"), schedule), path)
    found = published.load(path, weights, SIZE)
    assert found.process == DiscreteProcess(schedule, 1000)
    assert f"{schedule} schedule by its betas, 1000 timesteps" in found.reasons


def test_an_assumed_schedule_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(perturbed("TwoResUNet").state_dict(), path)
    assert "linear schedule, 1000 timesteps: assumed" in published.load(path, settings=SIZE).reasons
    chosen = published.load(path, settings=SIZE | {"schedule": "linear"}).reasons
    assert "linear schedule, 1000 timesteps: as set" in chosen


def test_a_learned_variance_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "six.pt"
    torch.save(perturbed("TwoResUNet", out_dim=6).state_dict(), path)
    with pytest.raises(CheckpointError, match="predicts 6 channels for images of 3"):
        published.load(path, settings=SIZE)


def test_what_the_file_does_not_say_is_asked_for_or_set(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(perturbed("TwoResUNet").state_dict(), path)
    with pytest.raises(ConfigError, match="does not say its image size: add --set image_size=128"):
        published.load(path)
    found = published.load(path, settings=SIZE | {"schedule": "cosine", "timesteps": "500", "prediction": "velocity"})
    assert (found.process, found.prediction) == (DiscreteProcess("cosine", 500), "velocity")
    with pytest.raises(ConfigError, match="--set image_size got 'big', expected a whole number"):
        published.load(path, settings={"image_size": "big"})
    with pytest.raises(ConfigError, match="--set got 'colour', expected one of image_size"):
        published.load(path, settings={"colour": "1"})
    with pytest.raises(ConfigError, match="--weights got 'best', expected ema or online"):
        published.load(path, "best")
    with pytest.raises(ConfigError, match="--set process has no use for a TwoResUNet"):
        published.load(path, settings=SIZE | {"process": "sit"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mid_block1.block.1.weight"), r"'mid_block1\.block\.1\.weight' got nothing"),
        (lambda state: state.pop("downs.1.2.weight"), "holds no network that is known here"),
        (lambda state: state.update({"extra.weight": torch.zeros(2)}), r"'extra\.weight' got .* expected nothing"),
        (lambda state: state.update({"final_conv.bias": torch.zeros(9)}), r"got \(9,\), expected \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: Any, message: str) -> None:
    state = dict(perturbed("TwoResUNet").state_dict())
    change(state)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        published.load(tmp_path / "odd.pt", settings=SIZE)


def test_an_unknown_network_is_refused_with_a_key_of_it(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"encoder.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"its keys start with 'encoder\.weight'"):
        published.load(path, settings=SIZE)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(CheckpointError, match="holds list, expected a dictionary of tensors"):
        published.load(path, settings=SIZE)


@pytest.mark.parametrize("wrong", [None, 7, "text", torch.zeros(2)])
def test_averaged_weights_that_are_no_dictionary(tmp_path: Path, wrong: Any) -> None:
    network = perturbed("TwoResUNet")
    torch.save(article_checkpoint(network) | {"ema": wrong}, tmp_path / "model.pt")
    found = published.load(tmp_path / "model.pt", settings=SIZE)
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias)
    assert found.reasons[0] == "'model' of a training checkpoint, which has no averaged weights"


# ---- ours -------------------------------------------------------------------------------------------------

LATENT = {"vae": "a-vae", "scale": [0.5] * 4, "bias": [0.1] * 4}
TINY_SIT = {"input_size": 4, "size": {"hidden_size": 24, "depth": 2, "num_heads": 3}, "channels": 4, "num_classes": 5}
FLOW = {"kind": "flow", "path": "cosine", "noise_time": 0, "margin": 0.0}
CHAIN = {"kind": "discrete", "schedule": "cosine", "num_timesteps": 50}


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
    network = perturbed("TwoResUNet", channels=1)
    law = {"law": "constant", "decay": 0.9, "every": 2}
    path = ours(tmp_path, network, process=CHAIN, objective={"name": "ddpm", "prediction": "velocity"}, ema=law)
    found = published.load(path, weights)
    assert (found.process, found.prediction) == (DiscreteProcess("cosine", 50), "velocity")
    assert (found.image_shape, found.step, found.weights) == ((1, 16, 16), 9, weights)
    assert found.initial_share == (pytest.approx(0.9**4) if weights == "ema" else None)
    assert (found.sampler, found.latent) == (Sampler("ddpm", {"clip_x0": True}), None)
    assert (found.classes, found.variance, found.guided_channels) == (None, None, None)
    assert found.reasons == ("a checkpoint of dtrain, recipe digits-unet", f"{weights} weights")
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias + (0.5 if weights == "ema" else 0))
    assert published.load(path, settings={"image_size": "32"}).image_shape == (1, 32, 32)


@pytest.mark.parametrize(("noise_time", "form"), [(0, "sit"), (1, "repa")])
@pytest.mark.parametrize("latent", [{}, LATENT])
def test_our_flows(tmp_path: Path, noise_time: int, form: str, latent: dict[str, Any]) -> None:
    network, process = transformer(), FLOW | {"noise_time": noise_time}
    data = {"image_size": 32 if latent else 4, "latent": latent, "label_dropout": 0.1}
    found = published.load(ours(tmp_path, network, process=process, objective={"name": "flow"}, data=data), "online")
    assert (found.process, found.prediction) == (FlowProcess("cosine", noise_time), "velocity")
    assert found.sampler == Sampler("euler_maruyama", {"form": form})
    assert (found.image_shape, found.classes, found.guided_channels) == ((4, 4, 4), Classes(5, 5), None)
    assert found.latent == ({"vae": "a-vae", "scale": (0.5,) * 4, "bias": (0.1,) * 4} if latent else None)
    x, t, y = torch.randn(2, 4, 4, 4), torch.tensor([0.2, 0.9]), torch.tensor([0, 5])
    assert torch.equal(found.network(x, t, y), network(x, t, y))


@pytest.mark.parametrize(("name", "variance"), [("DiT", "learned_range"), ("SiT", None)])
@pytest.mark.parametrize("latent", [{}, LATENT])
def test_our_chains(tmp_path: Path, name: str, variance: str | None, latent: dict[str, Any]) -> None:
    network = transformer(name, null_class=False)
    path = ours(tmp_path, network, process=CHAIN, objective={"name": "ddpm"}, data={"latent": latent})
    found = published.load(path)
    assert (found.variance, found.prediction) == (variance, "noise")
    learned = {"variance": variance} if variance else {}
    assert found.sampler == Sampler("ddpm", {**learned, "clip_x0": not latent})
    assert found.classes == Classes(5, None)


def test_a_null_label_that_was_never_trained_is_none(tmp_path: Path) -> None:
    path = ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"}, data={"label_dropout": 0.0})
    assert published.load(path).classes == Classes(5, None)


def test_the_images_that_it_learned_from(tmp_path: Path) -> None:
    """The last of five classes has no name: it is called by its number."""
    seen = {"source": "photos", "class_names": ["a", "b", "c", "d"], "num_images": 70, "fingerprint": "1f"}
    path = ours(tmp_path, transformer(channels=1), process=FLOW, objective={"name": "flow"}, data=seen)
    found = published.load(path)
    assert found.classes == Classes(5, None, ("a", "b", "c", "d", "4"))
    assert found.trained_on == TrainedOn("photos", 70, 16, 1, "1f")
    latent = published.load(ours(tmp_path, transformer(), process=FLOW, data=seen | {"latent": LATENT}))
    assert latent.trained_on == TrainedOn("photos", 70, 16, 3, "1f")  # of pictures, which are in colour


def test_an_older_checkpoint_does_not_say_what_it_learned_from(tmp_path: Path) -> None:
    assert published.load(ours(tmp_path, transformer(), process=FLOW, objective={"name": "flow"})).trained_on is None


def test_our_repa_leaves_its_projectors_and_an_unconditional_one_has_no_classes(tmp_path: Path) -> None:
    objective = {"name": "repa", "base": {"name": "flow", "prediction": "noise"}, "teachers": ["dinov2-vit-b"]}
    path = ours(tmp_path, transformer(num_classes=0), process=FLOW, objective=objective)
    found = published.load(path)
    assert (found.prediction, found.classes) == ("noise", None)
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
