"""What lies in training checkpoints of DiT, SiT and REPA, in bare files, and in files that are not what they seem."""

from __future__ import annotations

import argparse
import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drun.errors import CheckpointError
from dtrain import models, published
from dtrain.checkpoints import layouts

HEADS = {"num_heads": "3"}


def tiny(name: str = "SiT") -> nn.Module:
    torch.manual_seed(0)
    size = {"hidden_size": 24, "depth": 2, "num_heads": 3}
    network = models.build({"name": name, "input_size": 4, "size": size, "num_classes": 5})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def assert_holds(network: nn.Module, state: dict[str, Tensor]) -> None:
    found = network.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def training_checkpoint(network: nn.Module, **args: Any) -> dict[str, Any]:
    """What the train scripts of DiT, SiT and REPA write; the averaged weights are told by their final bias."""
    state = network.state_dict()
    averaged = state | {"final_layer.linear.bias": state["final_layer.linear.bias"] + 1}
    return {"model": state, "ema": averaged, "opt": {"state": {}}, "args": argparse.Namespace(**args)}


@pytest.mark.parametrize(("weights", "shift"), [("ema", 1), ("online", 0)])
def test_training_checkpoints_give_the_chosen_weights(tmp_path: Path, weights: str, shift: float) -> None:
    source = tiny("DiT")
    path = save(tmp_path / "0400000.pt", training_checkpoint(source, model="DiT-XL/2"))
    found = published.load(path, weights, HEADS)
    assert (found.weights, found.step) == (weights, 400_000)
    assert found.reasons[0] == f"'{ {'ema': 'ema', 'online': 'model'}[weights] }' of a training checkpoint"
    bias = "final_layer.linear.bias"
    assert_holds(found.network, source.state_dict() | {bias: source.state_dict()[bias] + shift})


def test_steps_are_read(tmp_path: Path) -> None:
    content = training_checkpoint(tiny(), enc_type="dinov2-vit-b") | {"steps": 50_000}
    assert published.load(save(tmp_path / "0000001.pt", content), settings=HEADS).step == 50_000


def test_repas_published_file_holds_averaged_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "last.pt", tiny().state_dict() | {"projectors.0.4.weight": torch.zeros(7, 3)})
    assert published.load(path, settings=HEADS).weights == "ema"
    path = save(tmp_path / "last.pt", tiny().state_dict())
    assert published.load(path, settings=HEADS | {"process": "sit"}).weights == "online"


@pytest.mark.parametrize("wrong", [None, 3, "text", torch.zeros(2), [1]])
def test_weights_that_are_no_dictionary(tmp_path: Path, wrong: Any) -> None:
    source = tiny("DiT")
    content = training_checkpoint(source, model="DiT-S/2")
    found = published.load(save(tmp_path / "a.pt", content | {"ema": wrong}), settings=HEADS)
    assert found.weights == "online"
    assert found.reasons[0] == "'model' of a training checkpoint, which has no averaged weights"
    assert_holds(found.network, source.state_dict())
    assert published.load(save(tmp_path / "a.pt", content | {"model": wrong}), settings=HEADS).weights == "ema"
    with pytest.raises(CheckpointError, match="holds no online weights, only averaged ones: use --weights ema"):
        published.load(tmp_path / "a.pt", "online", HEADS)
    with pytest.raises(CheckpointError, match="holds no network that is known here: its keys start with"):
        published.load(save(tmp_path / "a.pt", content | {"model": wrong, "ema": wrong}), settings=HEADS)


def test_keys_that_are_no_text_and_args_that_are_no_namespace(tmp_path: Path) -> None:
    source = tiny("DiT")
    content = training_checkpoint(source) | {"args": "DiT", "epoch": 3, 7: "seven"}
    content["ema"] = {0: torch.zeros(2), **source.state_dict()}
    found = published.load(save(tmp_path / "a.pt", content), settings=HEADS | {"process": "dit"})
    assert_holds(found.network, source.state_dict())
    content["args"] = {"model": "DiT-XL/2"}
    assert "DiT's train script" in published.load(save(tmp_path / "a.pt", content), settings=HEADS).reasons[1]


def test_args_that_hold_another_class_are_refused(tmp_path: Path) -> None:
    content = training_checkpoint(tiny(), model="DiT-S/2", queue=collections.deque([1]))
    with pytest.raises(CheckpointError, match=r"asks for the class 'collections\.deque'.*nothing was executed"):
        published.load(save(tmp_path / "a.pt", content), settings=HEADS)


class Touch:
    """A pickle of this writes a file when it is loaded the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_args_that_would_execute_something_execute_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = training_checkpoint(tiny(), model="DiT-S/2", logger=Touch(trace))
    with pytest.raises(CheckpointError, match=r"asks for the class '(_?io|builtins)\.open'.*nothing was executed"):
        published.load(save(tmp_path / "a.pt", content), settings=HEADS)
    assert not trace.exists()


def test_a_network_holds_the_tensors_of_the_file_and_no_copy() -> None:
    network = tiny()
    state = network.state_dict()
    config: Any = network.config
    found = layouts.network_of(config, state, "a file")
    assert {tensor.data_ptr() for tensor in found.state_dict().values()} == {one.data_ptr() for one in state.values()}
    assert found.pos_embed.requires_grad is False
    assert not found.training
    narrow = {key: tensor.bfloat16() for key, tensor in state.items()}
    assert_holds(layouts.network_of(config, narrow, "a file"), {key: one.float() for key, one in narrow.items()})
