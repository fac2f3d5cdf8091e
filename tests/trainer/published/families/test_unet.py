"""The article's U-Nets: packed as its averager packs them, or bare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import small

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import published

SIZE = {"image_size": "16"}
T = torch.tensor([3.0])


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
    network = small(name, **config)
    path = tmp_path / "bare.pt"
    torch.save(network.state_dict(), path)
    found = published.load(path, settings=SIZE)
    x = torch.randn(1, found.card.data.shape[0], 16, 16)
    assert found.config["name"] == name
    assert torch.equal(found.network(x, T), network(x, T))


@pytest.mark.parametrize(("weights", "shift"), [("ema", 0.5), ("online", 0.0)])
def test_the_articles_checkpoint_gives_the_chosen_weights(tmp_path: Path, weights: str, shift: float) -> None:
    network = small("TwoResUNet")
    path = tmp_path / "model-37.pt"
    torch.save(article_checkpoint(network), path)
    found = published.load(path, weights, SIZE)
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias + shift)
    assert (found.step, found.weights) == (37_000, weights)


@pytest.mark.parametrize("weights", ["ema", "online"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_the_schedule_is_recognised_by_its_betas(tmp_path: Path, schedule: str, weights: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(article_checkpoint(small("TwoResUNet"), schedule), path)
    found = published.load(path, weights, SIZE)
    assert found.card.process == DiscreteProcess(schedule, 1000)
    assert f"{schedule} schedule by its betas, 1000 timesteps" in found.reasons


def test_an_assumed_schedule_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(small("TwoResUNet").state_dict(), path)
    assert "linear schedule, 1000 timesteps: assumed" in published.load(path, settings=SIZE).reasons
    chosen = published.load(path, settings=SIZE | {"schedule": "linear"}).reasons
    assert "linear schedule, 1000 timesteps: schedule as set" in chosen


def test_the_betas_tell_the_number_of_timesteps(tmp_path: Path) -> None:
    """Whatever schedule is set; another number of them contradicts the file."""
    path = tmp_path / "model.pt"
    content = article_checkpoint(small("TwoResUNet"))
    for owner in ("online_model", "ema_model"):
        content["ema"][f"{owner}.betas"] = torch.tensor(DiscreteProcess("linear", 500).betas, dtype=torch.float32)
    torch.save(content, path)
    assert published.load(path, settings=SIZE | {"schedule": "cosine"}).card.process == DiscreteProcess("cosine", 500)
    with pytest.raises(ConfigError, match="--set timesteps got 250, the checkpoint has betas of 500: leave it out"):
        published.load(path, settings=SIZE | {"timesteps": "250"})


def test_a_learned_variance_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "six.pt"
    torch.save(small("TwoResUNet", out_dim=6).state_dict(), path)
    with pytest.raises(CheckpointError, match="predicts 6 channels for images of 3"):
        published.load(path, settings=SIZE)


@pytest.mark.parametrize("wrong", [None, 7, "text", torch.zeros(2)])
def test_averaged_weights_that_are_no_dictionary(tmp_path: Path, wrong: Any) -> None:
    network = small("TwoResUNet")
    torch.save(article_checkpoint(network) | {"ema": wrong}, tmp_path / "model.pt")
    found = published.load(tmp_path / "model.pt", settings=SIZE)
    assert torch.equal(found.network.final_conv.bias, network.final_conv.bias)
    assert found.reasons[0] == "'model' of a training checkpoint, which has no averaged weights"
