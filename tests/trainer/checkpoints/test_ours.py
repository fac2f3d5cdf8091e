import collections
import os
import pickle
from pathlib import Path

import pytest
import torch

from drun.errors import CheckpointError
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe


class Malicious:
    """A pickle of this runs a command when it is loaded the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def make(recipe: Recipe, step: int) -> Checkpoint:
    weights = {"w": torch.arange(3.0) + step}
    return Checkpoint(recipe, step, weights, {"w": torch.zeros(3)}, {"state": {}})


def test_round_trip_holds_tensors_numbers_and_strings_only(tiny_recipe: Recipe, tmp_path: Path) -> None:
    path = checkpoint.save(make(tiny_recipe, 5), tmp_path, keep=3)
    saved = checkpoint.read(path)
    assert saved.recipe == tiny_recipe
    assert (saved.step, saved.version) == (5, checkpoint.VERSION)
    assert saved.model["w"].tolist() == [5, 6, 7]
    assert torch.load(path, weights_only=True)["format"] == checkpoint.FORMAT


def test_the_same_content_gives_the_same_bytes(tiny_recipe: Recipe, tmp_path: Path) -> None:
    paths = [checkpoint.save(make(tiny_recipe, 5), tmp_path / name, keep=1) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_only_the_newest_are_kept_and_no_partial_file_is_left(tiny_recipe: Recipe, tmp_path: Path) -> None:
    for step in (10, 20, 30, 100):
        checkpoint.save(make(tiny_recipe, step), tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits-unet-0000030.pt", "digits-unet-0000100.pt"]
    newest = checkpoint.newest(tmp_path, "digits-unet")
    assert newest is not None
    assert newest.name == "digits-unet-0000100.pt"
    assert checkpoint.newest(tmp_path, "digits") is None


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_pickle_that_asks_for_a_class_is_refused_by_name(tmp_path: Path, write: str) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"model": {"w": torch.zeros(2)}, "extra": Malicious(trace)}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["extra"]))
    with pytest.raises(CheckpointError, match=rf"asks for the class '{os.system.__module__}.system'.*nothing was exec"):
        checkpoint.read_tensors(path)
    assert not trace.exists()


def test_even_a_harmless_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deque.pt"
    torch.save({"queue": collections.deque([1])}, path)
    with pytest.raises(CheckpointError, match=r"asks for the class 'collections\.deque'"):
        checkpoint.read_tensors(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"cut{suffix}"
    tensors = {"w": torch.randn(5000)}
    torch.save(tensors, path) if suffix == ".pt" else save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=rf"cut{suffix}' is truncated"):
        checkpoint.read_tensors(path)


def test_a_missing_file_and_a_foreign_layout_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.read_tensors(tmp_path / "none.pt")
    path = tmp_path / "foreign.pt"
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="was not written by dtrain"):
        checkpoint.read(path)
