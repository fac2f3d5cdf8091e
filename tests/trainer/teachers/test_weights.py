"""Weights that cannot be loaded, and where they are looked for."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_teachers import CPU, clip, dinov2, mirror_folder, own_checkpoint, perturb, save, timm_state, vit
from torch import Tensor

from drun.errors import CheckpointError, ConfigError
from dtrain import teachers


@pytest.mark.parametrize(
    ("spec", "image_size", "error", "complaint"),
    [
        ("runs/none", 16, ConfigError, "no teacher at 'runs/none': train one, as by 'dtrain run digits-teacher'"),
        ("dinov2-vit-xl", 256, ConfigError, "unknown teacher 'dinov2-vit-xl': choose from dinov2-vit-s, .*jepa-vit-h"),
        ("dinov2-vit-b=", 256, ConfigError, "expected dinov2-vit-b or dinov2-vit-b=LOCATION"),
        ("clip-vit-l=/no/such", 256, CheckpointError, "no such file or folder: '/no/such'.*'clip-vit-l'"),
        ("mae-vit-l=ckpts/mae.pth", 256, CheckpointError, "no such file or folder: 'ckpts/mae.pth'"),
        ("mocov3-vit-s", 256, ConfigError, "on no hub: give its official checkpoint by mocov3-vit-s=FILE"),
        ("dinov2-vit-b", 320, ConfigError, "'dinov2-vit-b' got images of 320 pixels, expected a multiple of 256"),
        ("clip-vit-l", 512, ConfigError, "got images of 512 pixels, expected 256: choose another teacher"),
        ("jepa-vit-h", 0, ConfigError, "expected 256"),
        ("mae-vit-l", 250, ConfigError, "expected a multiple of 16"),
    ],
)
def test_wrong_specs_are_refused(spec: str, image_size: int, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        teachers.load(spec, image_size, CPU)


def test_folders_of_another_class_or_damaged_are_refused(tmp_path: Path) -> None:
    folder = save(perturb(dinov2(num_hidden_layers=1)), tmp_path / "dinov2")
    with pytest.raises(CheckpointError, match="holds a 'dinov2', expected a 'clip'"):
        teachers.load(f"clip-vit-l={folder}", 256, CPU)
    described = json.loads((folder / "config.json").read_text())

    def describe(**changes: Any) -> str:
        (folder / "config.json").write_text(json.dumps(described | changes))
        return f"dinov2-vit-b={folder}"

    with pytest.raises(CheckpointError, match=r"does not fit a Dinov2Model .*got \(.*24.*\), expected \(.*32.*\)"):
        teachers.load(describe(hidden_size=32), 256, CPU)
    with pytest.raises(CheckpointError, match=r"does not fit a Dinov2Model: it lacks 'encoder\.layer\.1\."):
        teachers.load(describe(num_hidden_layers=2), 256, CPU)
    with pytest.raises(CheckpointError, match=r"got \(24, 3, 14, 14\), expected \(24, 3, 7, 7\)"):
        teachers.load(describe(patch_size=7), 256, CPU)
    spec, weights = describe(), (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match=f"the weights in '{folder}' do not fit"):
        teachers.load(spec, 256, CPU)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"do not fit: .*model\.safetensors"):
        teachers.load(spec, 256, CPU)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json'"):
        teachers.load(spec, 256, CPU)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="was not written by save_pretrained"):
        teachers.load(spec, 256, CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 60_000}, {"num_hidden_layers": 5000}, {"mlp_ratio": 1_000_000}, {"image_size": 10**9},
        {"hidden_size": "x"}, {"hidden_act": "evil"}, {"patch_size": 0}, {"hidden_size": 10**30},
    ],
)  # fmt: skip
def test_a_configuration_that_no_machine_holds_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save(perturb(dinov2()), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=r"the weights in '.*' do not fit: .+; copy it again"):
        teachers.load(f"dinov2-vit-s={tmp_path}", 256, CPU)


def test_networks_of_another_patch_or_unresampled_image_size_are_refused(tmp_path: Path) -> None:
    save(perturb(clip(image_size=336)), tmp_path / "large")
    with pytest.raises(CheckpointError, match="has image_size 336, expected 224"):
        teachers.load(f"clip-vit-l={tmp_path / 'large'}", 256, CPU)
    save(perturb(vit(patch_size=32)), tmp_path / "coarse")
    with pytest.raises(CheckpointError, match="has patch_size 32, expected 16: it is another teacher"):
        teachers.load(f"dinov1-vit-b={tmp_path / 'coarse'}", 256, CPU)


class Malicious:
    """A pickle of this runs a command when it is loaded the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_folder_or_file_is_executed(tmp_path: Path, images: Tensor) -> None:
    folder, trace = save(perturb(dinov2()), tmp_path / "dinov2"), tmp_path / "executed"
    described = json.loads((folder / "config.json").read_text())
    remote = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(described | remote))
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n")
    torch.save({"w": Malicious(trace)}, folder / "pytorch_model.bin")
    assert teachers.load(f"dinov2-vit-b={folder}", 256, CPU)(images).isfinite().all()  # safetensors come first
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="do not fit"):
        teachers.load(f"dinov2-vit-b={folder}", 256, CPU)
    with pytest.raises(CheckpointError, match="nothing was executed"):
        teachers.load(f"mocov3-vit-b={folder / 'pytorch_model.bin'}", 256, CPU)
    assert not trace.exists()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_what_cannot_be_downloaded_asks_for_a_local_copy(offline: Path) -> None:
    message = "cannot get 'facebook/dinov2-base' .*: HF_HUB_OFFLINE .*; give a local copy by dinov2-vit-b=FOLDER"
    with pytest.raises(CheckpointError, match=message):
        teachers.load("dinov2-vit-b", 256, CPU)


def test_a_repository_that_a_recipe_names_is_not_fetched(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtrain.hub.reach", lambda: pytest.fail("the network was asked"))
    message = "not downloaded: fetch it by hf download some/mirror, or give a local copy by clip-vit-l=FOLDER"
    with pytest.raises(CheckpointError, match=message):
        teachers.load("clip-vit-l=some/mirror", 256, CPU)


@pytest.mark.parametrize("name", ["dinov2-vit-b", "mocov3-vit-b"])
def test_weights_in_the_hubs_cache_need_no_network(name: str, offline: Path, tmp_path: Path, images: Tensor) -> None:
    local = tmp_path / "local"
    if name == "dinov2-vit-b":
        save(perturb(dinov2()), local)
    else:  # a mirror of the official file, without a configuration
        mirror_folder(timm_state(24, 2), local)
        (local / "config.json").unlink()
    repository = offline / f"models--{teachers.TEACHERS[name].hub.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(local, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    cached, given = teachers.load(name, 256, CPU), teachers.load(f"{name}={local}", 256, CPU)
    assert cached.fingerprint == given.fingerprint
    assert torch.equal(cached(images), given(images))


def test_without_transformers_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"install it with: pip install 'dexport\[repa\]'"):
        teachers.load("dinov2-vit-b", 256, CPU)
    own_checkpoint(tmp_path, 1)
    assert teachers.load(str(tmp_path), 16, CPU).num_tokens == 16  # ours needs no more than PyTorch
