from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from drun.console import silent
from drun.errors import CheckpointError, ConfigError, DataError
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Ema, Recipe
from dtrain.device import Placement
from dtrain.train.loop import train

CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())


@pytest.mark.parametrize("law", ["warmup", "constant"])
def test_a_resumed_average_of_an_older_law_is_said(
    tiny_recipe: Recipe, law: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(tiny_recipe, ema=Ema(law, 0.0, every=10))
    first = train(replace(recipe, train=replace(recipe.train, steps=10)), tmp_path, CPU, False, silent)
    assert capsys.readouterr().err == ""
    content = torch.load(first, weights_only=True)
    torch.save(content | {"version": 1}, first)
    train(recipe, tmp_path, CPU, True, silent)
    said = (
        f"warning: the average in '{first}' followed an older warm-up law, which acted at steps 10, 20, ...; this run "
        "goes on with that of ema-pytorch, at 1, 11, 21, ...: start a new run if the average must be the article's "
        "from its first step\n"
    )
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert "was written by an older dtrain and has no digest" in lines[0]
    assert lines[1:] == ([said] if law == "warmup" else [])


def test_folders_are_never_mixed_up(tiny_recipe: Recipe, tmp_path: Path) -> None:
    short = replace(tiny_recipe, train=replace(tiny_recipe.train, steps=1))
    with pytest.raises(ConfigError, match="nothing to resume"):
        train(short, tmp_path, CPU, True, silent)
    train(short, tmp_path, CPU, False, silent)
    with pytest.raises(ConfigError, match="already holds a run of 'digits-unet': add --resume"):
        train(short, tmp_path, CPU, False, silent)
    wider = replace(short, model=short.model | {"dim": 16})
    with pytest.raises(ConfigError, match="was trained with model"):
        train(wider, tmp_path, CPU, True, silent)


def test_broken_data_is_named_before_the_first_step(tiny_recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (16, 16)).save(folder / "good.png")
    (folder / "bad.png").write_bytes((folder / "good.png").read_bytes()[:40])
    recipe = replace(tiny_recipe, data=replace(tiny_recipe.data, source=str(folder)))
    with pytest.raises(DataError, match=r"bad\.png"):
        train(recipe, tmp_path / "run", CPU, False, silent)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def changed_optimizer(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A checkpoint with another optimizer state, as if it were meant so."""
    content = torch.load(path, weights_only=True)
    change(content["optimizer"]["state"]["init_conv.weight"])
    torch.save(content | {"sha256": checkpoint.content_digest(content)}, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda moments: moments.update(exp_avg=torch.zeros(3)),
        lambda moments: moments.update(exp_avg_sq=torch.full_like(moments["exp_avg_sq"], torch.nan)),
        lambda moments: moments.update(step=torch.ones(5)),
    ],
)
def test_an_optimizer_state_that_does_not_fit_is_not_loaded(
    tiny_recipe: Recipe, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    """torch's fused AdamW would write past the moment's end."""
    short = replace(tiny_recipe, train=replace(tiny_recipe.train, steps=10))
    changed_optimizer(train(short, tmp_path, CPU, False, silent), change)
    with pytest.raises(CheckpointError, match=r"of 'init_conv.weight' in '.*0000010.pt' .*: it is damaged"):
        train(tiny_recipe, tmp_path, CPU, True, silent)


def test_a_folder_of_another_recipe_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Its log and its record would be lost."""
    train(tiny_recipe, tmp_path, CPU, False, silent)
    log = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ConfigError, match="already holds a run of 'digits-unet': choose another --out"):
        train(replace(tiny_recipe, name="digits"), tmp_path, CPU, False, silent)
    assert (tmp_path / "log.jsonl").read_text() == log


def test_a_resumed_run_is_compared_with_its_checkpoint(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Whatever became of its recipe.json."""
    train(tiny_recipe, tmp_path, CPU, False, silent)
    (tmp_path / "recipe.json").unlink()
    other = replace(tiny_recipe, process=tiny_recipe.process | {"schedule": "linear"})
    with pytest.raises(ConfigError, match=r"was trained with process = .*cosine"):
        train(other, tmp_path, CPU, True, silent)


def test_a_step_that_is_not_the_names_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    last = train(tiny_recipe, tmp_path, CPU, False, silent)
    last.rename(checkpoint.path_at(tmp_path, tiny_recipe, 99))
    with pytest.raises(CheckpointError, match="is of step 20, its name says another: it is damaged"):
        train(tiny_recipe, tmp_path, CPU, True, silent)


def test_a_damaged_newest_checkpoint_names_the_one_before(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path, CPU, False, silent).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"to go on from '.*digits-unet-0000010.pt', delete the damaged one"):
        train(tiny_recipe, tmp_path, CPU, True, silent)


def test_a_preview_that_cannot_be_drawn_is_refused_at_once(tiny_recipe: Recipe, tmp_path: Path) -> None:
    many = replace(tiny_recipe, train=replace(tiny_recipe.train, preview_steps=1001))
    with pytest.raises(ConfigError, match=r"train.preview_steps got 1001, the process has 1000"):
        train(many, tmp_path, CPU, False, silent)
