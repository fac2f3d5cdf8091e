"""Reading a file of any layout, and what is said of one that is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import small
from safetensors.torch import save_file

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import published

SIZE = {"image_size": "16"}
T = torch.tensor([3.0])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_wrappers_prefixes_are_stripped(tmp_path: Path, prefix: str) -> None:
    network = small("TwoResUNet")
    path = tmp_path / "wrapped.pt"
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(published.load(path, settings=SIZE).network(x, T), network(x, T))


def test_safetensors(tmp_path: Path) -> None:
    network = small("OneResUNet")
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    assert published.load(tmp_path / "net.safetensors", settings=SIZE).config["name"] == "OneResUNet"


def test_what_the_file_does_not_say_is_asked_for_or_set(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(small("TwoResUNet").state_dict(), path)
    with pytest.raises(ConfigError, match="does not say its image size: add --set image_size=128"):
        published.load(path)
    found = published.load(path, settings=SIZE | {"schedule": "cosine", "timesteps": "500", "prediction": "velocity"})
    assert (found.card.process, found.card.prediction) == (DiscreteProcess("cosine", 500), "velocity")
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
    state = dict(small("TwoResUNet").state_dict())
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
