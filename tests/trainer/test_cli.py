from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from dtrain import cli, config

TINY = ["--set", "model.dim=8", "--set", "model.dim_mults=[1,2]", "--set", "train.batch_size=4"]

#: Runs a command in this process and in a folder of its own: its exit code, its lines for people, its errors.
Here = Callable[..., tuple[object, list[str], list[str]]]


@pytest.fixture
def here(in_process: Callable[[str], Callable[..., Any]]) -> Here:
    dtrain = in_process("dtrain")

    def run(*arguments: str) -> tuple[object, list[str], list[str]]:
        done = dtrain(*arguments)
        return done.code, done.out.splitlines(), done.err.splitlines()

    return run


def dtrain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from dtrain.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_list_of_recipes_needs_no_torch(tmp_path: Path) -> None:
    blocked = (
        "import sys; sys.modules['torch'] = None; from dtrain import commands; from dtrain.cli import main; "
        "commands.recipes('fashion-sit', False); main()"
    )
    done = subprocess.run([sys.executable, "-c", blocked, "recipes"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "dtrain recipes fashion-sit --toml > mine.toml" in done.stdout
    assert "aerial-128 " in done.stdout


def test_a_printed_recipe_is_begun_from_and_a_dry_run_writes_nothing(here: Here, tmp_path: Path) -> None:
    _, lines, _ = here("recipes", "digits-unet", "--toml")
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    code, lines, errors = here("run", "mine.toml", "--dry-run", "--device", "cpu", "--set", "train.steps=9")
    assert (code, errors) == (0, [])
    assert lines[0].startswith("mine: TwoResUNet, 1,056,353 parameters")
    assert lines[1] == "9 steps of 32 images: 288 images are seen"
    assert any(line.startswith("1,797 images") for line in lines)
    condition = "if all 1,797 images can be decoded as 100 of them were"
    assert lines[-1] == f"the run would start, {condition}; nothing was written"
    assert len(lines) < 10
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("recipe", ["mine.toml", "digits-unet"])
def test_a_recipe_in_place_of_a_command(here: Here, recipe: str) -> None:
    code, lines, errors = here(recipe, "--resume")
    assert (code, lines) == (1, [])
    assert errors == [f"error: '{recipe}' is not a command: to train this recipe, type dtrain run {recipe} --resume"]


def document(here: Here, *arguments: str) -> dict[str, Any]:
    """What a command prints under --json and --quiet, which is all it prints."""
    code, lines, errors = here(*arguments, "--json", "--quiet")
    assert (code, errors) == (0, [])
    return dict(json.loads("\n".join(lines)))


def test_what_there_is_as_one_json_document(here: Here) -> None:
    assert document(here, "recipes")["digits-unet"] == config.summary("digits-unet")
    assert document(here, "recipes", "digits-unet")["settings"]["data"]["source"] == "digits"
    assert document(here, "recipes", "digits-unet", "--toml")["settings"] == config.load("digits-unet").to_dict()
    sections = {section["section"] for section in document(here, "settings")["sections"]}
    assert {"model", "objective", "train", "ema"} <= sections


def test_a_quiet_recipe_is_still_printed(here: Here) -> None:
    assert here("recipes", "digits-unet", "--toml", "--quiet") == here("recipes", "digits-unet", "--toml")
    assert here("recipes", "--quiet") == (0, [], [])


def test_a_run_as_one_json_document(here: Here, tmp_path: Path) -> None:
    run = ["run", "digits-unet", *TINY, "--set", "train.steps=2", "--device", "cpu"]
    tried = document(here, *run, "--dry-run")
    assert (tried["images"], tried["recipe"]["train"]["steps"]) == (1797, 2)
    found = document(here, *run)
    assert (tmp_path / found["checkpoint"]).is_file()
    assert (found["recipe"], found["steps"]) == ("digits-unet", 2)


def test_settings_are_listed(here: Here) -> None:
    code, lines, _ = here("settings")
    assert code == 0
    assert any(line.split()[:2] == ["ema.every", "1"] for line in lines)


@pytest.mark.slow
def test_run_and_resume_from_the_command_line(tmp_path: Path) -> None:
    done = dtrain("run", "digits-unet", *TINY, "--set", "train.steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "runs" / "digits-unet" / "digits-unet-0000002.pt"
    assert checkpoint.is_file()
    assert "device cpu" in done.stdout
    assert f"dexport onnx {checkpoint.relative_to(tmp_path)}" in done.stdout
    assert "watch it: tensorboard --logdir runs/digits-unet/tensorboard" in done.stdout.splitlines()
    assert "{" not in done.stdout  # the settings stay in recipe.json
    done = dtrain("run", "digits-unet", *TINY, "--set", "train.steps=4", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert checkpoint.with_name("digits-unet-0000004.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "cats"], "unknown recipe 'cats': choose one of"),
        (["run", "mine.toml"], "no such file 'mine.toml'"),
        (["recipes", "--toml"], "--toml prints one recipe, expected its name"),
        (["run", "aerial-128"], "add --data with"),
        (["run", "fashion-sit", "--dry-run"], "'dtrain recipes fashion-sit' says which"),
        (["run", "aerial-128", "--data", "nowhere"], "nowhere"),
        (["run", "digits-unet", "--device", "tpu"], "unknown device 'tpu'"),
        (["run", "digits-unet", "--resume"], "nothing to resume"),
        (["tiles", "nowhere", "out"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(here: Here, arguments: list[str], message: str) -> None:
    code, _, errors = here(*arguments)
    assert code == 1
    (error,) = (line for line in errors if line.startswith("error: "))
    assert message in error
    assert "Traceback" not in "".join(errors)


@pytest.mark.parametrize(
    ("command", "function", "names"),
    [
        ("tiles", "dtrain.data.tiles:cut_tiles", {"size", "overlap", "holdout", "min_std", "seed"}),
        ("encode", "dtrain.data.encode:encode", {"device", "batch_size", "flip"}),
    ],
)
def test_the_defaults_are_those_of_the_library(command: str, function: str, names: set[str]) -> None:
    """`cli` states them once more, for importing the library would make every --help slow."""
    module, _, name = function.partition(":")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    assert {key for key, found in parameters.items() if found.default is not found.empty} - {"report"} == names
    shown = {option.name: option.default for option in get_command(cli.app).commands[command].params}  # type: ignore[attr-defined]
    assert {key: shown[key.removesuffix("_size")] for key in names} == {key: parameters[key].default for key in names}


def test_tiles_from_the_command_line(here: Here, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    np.save(tmp_path / "frames.npy", stack)
    code, lines, _ = here("tiles", "frames.npy", "cut", "--size", "16")
    assert code == 0
    assert len(list((tmp_path / "cut" / "train").glob("*.png"))) == 3 * 4
    assert "12 tiles" in lines[0]
