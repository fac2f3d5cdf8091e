"""What `dtrain inspect` prints."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import config, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint, content_digest
from dtrain.published.inspection import inspect, paper_name

SIZE = {"hidden_size": 24, "depth": 2, "num_heads": 3}
VIT = {
    "name": "ViT", "image_size": 4, "patch_size": 2, "channels": 1, "num_classes": 3, "hidden_size": 8, "depth": 1,
    "num_heads": 2,
}  # fmt: skip
UNET = {"name": "TwoResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 1}


def perturbed(model: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    network = models.build(model)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def tiny(name: str, **settings: Any) -> nn.Module:
    return perturbed({"name": name, "input_size": 4, "size": SIZE, "num_classes": 5} | settings)


def ours(
    folder: Path, recipe_name: str, model: dict[str, Any], projectors: dict[str, Any] | None = None, **sections: Any
) -> Path:
    recipe = config.load(recipe_name).to_dict() | {"model": model} | sections
    state = perturbed(model).state_dict()
    saved = Checkpoint(config.from_dict(recipe), 1200, state, state, {}, projectors or {})
    return checkpoint.save(saved, folder, keep=1)


def lines(path: Path, settings: dict[str, str] | None = None) -> list[str]:
    return inspect(path, settings).lines


def rows(text: list[str]) -> dict[str, list[str]]:
    """The lines after the first, by their first column."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in text[1:]:
        title = line[:12].strip() or title
        found.setdefault(title, []).append(line[12:])
    return found


@pytest.mark.parametrize(
    ("model", "process", "name"),
    [
        ({"name": "SiT", "size": "XL", "patch_size": 2}, FlowProcess(), "SiT-XL/2"),
        ({"name": "DiT", "size": "B", "patch_size": 8}, DiscreteProcess(), "DiT-B/8"),
        ({"name": "SiT", "size": "L", "patch_size": 4}, DiscreteProcess(), "DiT-L/4"),
        ({"name": "SiT", "size": "S", "patch_size": 2, "qk_norm": True}, None, "SiT-S/2, queries and keys normed"),
        ({"name": "SiT"}, None, "SiT-B/2"),
        ({"name": "SiT", "size": SIZE, "patch_size": 1}, None, "SiT, width 24, 2 blocks, 3 heads, patch 1"),
        ({"name": "TwoResUNet", "dim": 8, "dim_mults": [1, 2]}, None, "TwoResUNet, dim 8, mults 1, 2"),
        (VIT, None, "ViT, width 8, 1 blocks, 2 heads, patch 2"),
        ({"name": "New"}, None, "New"),
    ],
)
def test_networks_are_called_as_in_their_papers(model: dict[str, Any], process: Any, name: str) -> None:
    assert paper_name(model, process) == name


def test_a_training_checkpoint_of_dit(tmp_path: Path) -> None:
    network, path = tiny("DiT"), tmp_path / "0400000.pt"
    state = network.state_dict()
    torch.save({"model": state, "ema": state, "opt": {}, "args": argparse.Namespace(model="DiT-S/2")}, path)
    text = lines(path, {"num_heads": "3"})
    count = sum(parameter.numel() for parameter in network.parameters())
    assert text[0] == f"0400000.pt: DiT, width 24, 2 blocks, 3 heads, patch 2, {count:,} parameters"
    assert rows(text) == {
        "file": [f"a training checkpoint, {path.stat().st_size / 1e6:.1f} MB"],
        "weights": ["ema and online, step 400,000"],
        "states": ["4 x 4 x 4 (latent of stabilityai/sd-vae-ft-ema, scale 0.18215)"],
        "process": ["kind=discrete schedule=linear num_timesteps=1000"],
        "prediction": ["noise, variance learned_range"],
        "classes": ["5, null label 5"],
        "guidance": ["of the first 3 of 4 channels"],
        "sampler": ["ddpm variance=learned_range clip_x0=False"],
        "because": [
            "'ema' of a training checkpoint",
            "taken for a DiT, which counts timesteps: its args are those of DiT's train script",
            "linear schedule, 1000 timesteps, noise: assumed, as published",
            "a learned variance by its head",
            "latents by its 4 channels, decoded by stabilityai/sd-vae-ft-ema: assumed, as published",
        ],
        "next": [
            f"dexport onnx {shlex.quote(str(path))} --set num_heads=3",
            "drun --backend ort --steps 250 --cfg 1.5 --bundle bundles/0400000",
        ],
    }


def test_repas_bare_weights(tmp_path: Path) -> None:
    path = tmp_path / "my net.pt"
    torch.save(tiny("SiT").state_dict() | {"projectors.0.4.weight": torch.zeros(7, 3)}, path)
    found = rows(lines(path, {"num_heads": "3"}))
    assert (found["file"][0][:17], found["weights"]) == ("a bare state dict", ["one set, taken for online"])
    assert found["process"] == ["kind=flow path=linear noise_time=1 margin=0.0"]
    assert found["prediction"] == ["velocity, variance not learned"]
    assert found["guidance"] == ["of all channels"]
    assert found["sampler"] == ["euler_maruyama form=repa"]
    assert "projectors to a teacher of 7 dimensions dropped: they are for training" in found["because"]
    assert found["next"] == [
        f"dexport onnx '{path}' --set num_heads=3",
        "drun --backend ort --steps 250 --cfg 1.8 --interval 0,0.7 --bundle 'bundles/my net'",
    ]


def test_an_unconditional_unet(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    model = {"name": "OneResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 3}
    torch.save(perturbed(model).state_dict(), path)
    text = lines(path, {"image_size": "16"})
    found = rows(text)
    assert text[0].startswith("net.pt: OneResUNet, dim 8, mults 1, 2, ")
    assert (found["states"], found["classes"]) == (["3 x 16 x 16 (pixel)"], ["none"])
    assert (found["guidance"], found["weights"]) == (["not possible"], ["one set, taken for online"])
    assert found["next"][1] == "drun --backend ort --steps 250 --bundle bundles/net"


def test_our_own_denoisers(tmp_path: Path) -> None:
    model = {"name": "SiT", "input_size": 16, "size": SIZE, "channels": 1, "num_classes": 10, "null_class": False}
    path = ours(tmp_path, "digits-sit", model, {"projectors.0.conv.weight": torch.zeros(9, 24, 3, 3)})
    found = rows(lines(path))
    assert found["file"] == [f"a checkpoint of dtrain, recipe digits-sit, {path.stat().st_size / 1e6:.1f} MB"]
    assert found["weights"] == ["ema and online, step 1,200"]
    assert (found["states"], found["classes"]) == (["1 x 16 x 16 (pixel)"], ["10, no null label"])
    assert (found["guidance"], found["sampler"]) == (["not possible"], ["euler_maruyama form=repa"])
    assert "projectors to a teacher of 9 dimensions dropped: they are for training" in found["because"]
    assert found["next"][1] == "drun --backend ort --steps 250 --bundle bundles/digits-sit-0001200"


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    model = {"name": "SiT", "input_size": 16, "size": SIZE, "channels": 1, "num_classes": 10}
    path = ours(tmp_path, "digits-sit", model)
    assert lines(tmp_path) == lines(path)


def test_our_own_teachers(tmp_path: Path) -> None:
    path = ours(tmp_path, "digits-teacher", VIT)
    count = sum(parameter.numel() for parameter in perturbed(VIT).parameters())
    text = lines(path)
    assert text[0] == f"digits-teacher-0001200.pt: ViT, width 8, 1 blocks, 2 heads, patch 2, {count:,} parameters"
    assert rows(text) == {
        "file": [f"a checkpoint of dtrain, recipe digits-teacher, {path.stat().st_size / 1e6:.1f} MB"],
        "weights": ["ema and online, step 1,200"],
        "images": ["1 x 4 x 4, 3 classes"],
        "next": [f"""a teacher: use it as dtrain run RECIPE --set 'objective.teachers=["{path}"]'"""],
    }


@pytest.mark.parametrize(("recipe", "model"), [("digits-unet", UNET), ("digits-teacher", VIT)])
def test_an_average_of_initial_weights_is_said(tmp_path: Path, recipe: str, model: dict[str, Any]) -> None:
    """After 1,200 steps."""
    found = rows(lines(ours(tmp_path, recipe, model, ema={"law": "constant", "decay": 0.999, "every": 1})))
    assert found["average"] == [
        "still holds 30.1 % of the initial weights at step 1,200 and may draw noise: export --weights online, "
        "train longer, or train with --set ema.law=ramp"
    ]
    assert found["next"][0].endswith(".pt --weights online") == (recipe == "digits-unet")
    assert "average" not in rows(lines(ours(tmp_path, recipe, model)))


def test_a_teacher_that_is_damaged(tmp_path: Path) -> None:
    path = ours(tmp_path, "digits-teacher", VIT)
    content = torch.load(path)
    content["ema"].pop("head.bias")
    torch.save(content | {"sha256": content_digest(content)}, path)
    with pytest.raises(CheckpointError, match=r"a ViT, does not fit its network: 'head\.bias' got nothing"):
        lines(path)


def test_what_is_ambiguous_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(tiny("DiT").state_dict(), path)
    with pytest.raises(ConfigError, match="may be a DiT or a SiT"):
        lines(path, {"num_heads": "3"})


@pytest.mark.slow
def test_the_same_facts_as_one_json_document(tmp_path: Path) -> None:
    path = ours(tmp_path, "digits-teacher", VIT)
    torch.save(tiny("SiT").state_dict(), tmp_path / "net.pt")

    def document(*words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "dtrain", "inspect", *words, "--json", "--quiet"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return dict(json.loads(done.stdout))

    found = document("net.pt", "--set", "process=sit", "--set", "num_heads=3")
    assert found["process"] == {"kind": "flow", "path": "linear", "noise_time": 0, "margin": 0.0}
    assert (found["prediction"], found["variance"]) == ("velocity", None)
    assert found["parameters"] == sum(parameter.numel() for parameter in tiny("SiT").parameters())
    assert found["next"][0] == "dexport onnx net.pt --set process=sit --set num_heads=3"
    teacher = document(path.name)
    assert (teacher["model"], teacher["step"], teacher["num_bytes"]) == (VIT, 1200, path.stat().st_size)
    assert teacher["classes"]["count"] == VIT["num_classes"]


def test_the_command(tmp_path: Path) -> None:
    torch.save(tiny("SiT").state_dict(), tmp_path / "net.pt")
    code = "from dtrain.cli import main; main()"
    options = ["inspect", "net.pt", "--set", "process=sit", "--set", "num_heads=3"]
    done = subprocess.run([sys.executable, "-c", code, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *lines(tmp_path / "net.pt", {"process": "sit", "num_heads": "3"})[:-2],
        "next        dexport onnx net.pt --set process=sit --set num_heads=3",
        "            drun --backend ort --steps 250 --cfg 1.5 --bundle bundles/net",
    ]
