from pathlib import Path

import pytest
import torch

from drun.errors import CheckpointError
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe


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


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    for name in ("fashion-0000100.pt", "fashion-0000020.pt", "fashion-best.pt", "fashion-0000900.pt.bak"):
        (tmp_path / name).touch()
    assert checkpoint.located(tmp_path) == tmp_path / "fashion-0000100.pt"
    assert checkpoint.located(tmp_path / "fashion-0000020.pt") == tmp_path / "fashion-0000020.pt"
    assert checkpoint.located(tmp_path / "none.pt") == tmp_path / "none.pt"
    (tmp_path / "fashion-large-0000300.pt").touch()
    with pytest.raises(CheckpointError, match=r"several recipes: name one, such as '.*fashion-large-0000300\.pt'"):
        checkpoint.located(tmp_path)


def test_a_folder_of_dit_or_sit_has_steps_only(tmp_path: Path) -> None:
    for name in ("0050000.pt", "0400000.pt"):
        (tmp_path / name).touch()
    assert checkpoint.located(tmp_path) == tmp_path / "0400000.pt"


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").touch()
    with pytest.raises(CheckpointError, match="is a folder without checkpoints, expected one that 'dtrain run' wrote"):
        checkpoint.located(tmp_path)


def test_rotation_deletes_files_of_this_run_only(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Ordered by number, whatever its length, and never the one just written."""
    others = ["digits-unet-best.pt", "digits-unet-0000001.bak.pt", "digits-0000001.pt", "digits-unet-12.pt"]
    others.append("digits-unet-large-0000005.pt")
    for name in others:
        (tmp_path / name).write_text("precious")
    for step in (9_999_999, 10_000_000, 20):
        path = checkpoint.save(make(tiny_recipe, step), tmp_path, keep=1)
        assert path.is_file()
    kept = {path.name for path in tmp_path.iterdir()} - set(others)
    assert kept == {"digits-unet-10000000.pt", "digits-unet-0000020.pt"}
    assert set(others) <= {path.name for path in tmp_path.iterdir()}
    assert checkpoint.newest(tmp_path, "digits-unet") == tmp_path / "digits-unet-10000000.pt"


def test_content_that_was_changed_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    path = checkpoint.save(make(tiny_recipe, 5), tmp_path, keep=3)
    content = torch.load(path)
    content["model"]["w"][1] += 1
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="is damaged: its content has another sha256 than it states"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 6}, {"ema": {"w": torch.zeros(3, dtype=torch.float64)}}, {"ema": {"w": torch.zeros(3, 1)}},
        {"ema": {"v": torch.zeros(3)}}, {"optimizer": {"state": []}}, {"scaler": {"scale": 1}}, {"more": 1},
    ],
)  # fmt: skip
def test_the_digest_is_of_everything(tiny_recipe: Recipe, tmp_path: Path, change: dict[str, object]) -> None:
    content = torch.load(checkpoint.save(make(tiny_recipe, 5), tmp_path, keep=3))
    assert checkpoint.content_digest(content) == content["sha256"]
    assert checkpoint.content_digest(content | change) != content["sha256"]


def test_a_checkpoint_of_version_1_loads_with_a_warning(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint.save(make(tiny_recipe, 5), tmp_path, keep=3)
    content = torch.load(path)
    del content["sha256"]
    torch.save(content | {"version": 1}, path)
    assert checkpoint.read(path).version == 1
    assert "was written by an older dtrain and has no digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "has version 3, expected 1 or 2: use a newer dtrain"),
        ({"version": [1]}, r"has version \[1\], expected 1 or 2"),
        ({"step": "x"}, "step got 'x', expected a whole number"),
        ({"step": -1}, "its step got -1, expected 0 or more"),
        ({"version": True}, "has version True, expected 1 or 2"),
        ({"model": {"w": 1}}, "its model holds int as 'w', expected a tensor"),
        ({"recipe": {}}, "is damaged: .*lacks .*model"),
        ({"recipe": {"name": "../../x"}}, "is damaged: "),
        ({"optimizer": None}, "checkpoint.optimizer got None, expected dict"),
    ],
)  # fmt: skip
def test_a_part_that_is_wrong_is_named(
    tiny_recipe: Recipe, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = checkpoint.save(make(tiny_recipe, 5), tmp_path, keep=3)
    content = torch.load(path) | change
    torch.save(content | {"sha256": checkpoint.content_digest(content)}, path)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(path)


def test_a_foreign_layout_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="was not written by dtrain"):
        checkpoint.read(path)
