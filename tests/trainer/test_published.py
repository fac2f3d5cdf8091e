from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from drun.errors import CheckpointError, ConfigError
from drun.process import DiscreteProcess
from dtrain import models, published

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
