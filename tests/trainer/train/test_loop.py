import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drun.console import silent
from drun.errors import OutOfMemory, UserError
from drun.files import locked
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Ema, Optimizer, Recipe
from dtrain.device import Placement
from dtrain.train.loop import train

CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())


class Stop(Exception):
    """The user's Ctrl-C, at a chosen step."""


def stop_at(step: int):
    def report(what: str, done: int, total: int, note: str = "") -> None:
        if done > step:
            raise Stop

    return report


def weights(path: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(path)
    state = {f"optimizer.{i}.{key}": value for i, s in saved.optimizer["state"].items() for key, value in s.items()}
    return {f"model.{k}": v for k, v in saved.model.items()} | {f"ema.{k}": v for k, v in saved.ema.items()} | state


def losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


@pytest.mark.parametrize("law", [Ema("ramp", 0.9, 3), Ema("warmup", 0.9, 3), Ema("constant", 0.9, 3)])
def test_20_steps_equal_10_steps_and_10_resumed_bit_for_bit(tiny_recipe: Recipe, law: Ema, tmp_path: Path) -> None:
    recipe = replace(tiny_recipe, ema=law)
    whole = train(recipe, tmp_path / "whole", CPU, False, silent)
    with pytest.raises(Stop):
        train(recipe, tmp_path / "halves", CPU, False, stop_at(10))
    assert checkpoint.newest(tmp_path / "halves", recipe.name).stem.endswith("-0000010")
    halves = train(recipe, tmp_path / "halves", CPU, True, silent)
    expected, got = weights(whole), weights(halves)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")


def test_training_learns_and_leaves_its_records(tiny_recipe: Recipe, tmp_path: Path) -> None:
    longer = replace(tiny_recipe, train=replace(tiny_recipe.train, steps=60, log_every=10, preview_every=30))
    last = train(longer, tmp_path, CPU, False, silent)
    logged = losses(tmp_path)
    assert logged[60] < 0.8 * logged[10]
    assert last.name == "digits-unet-0000060.pt"
    assert json.loads((tmp_path / "recipe.json").read_text()) == checkpoint.read(last).recipe.to_dict()
    assert checkpoint.read(last).recipe.train == longer.train
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["step-0000030.png", "step-0000060.png"]
    assert np.asarray(Image.open(tmp_path / "previews" / "step-0000060.png")).std() > 0
    assert list((tmp_path / "tensorboard").glob("events.*"))
    ema, online = checkpoint.read(last).ema, checkpoint.read(last).model
    assert not torch.equal(ema["init_conv.weight"], online["init_conv.weight"])


def test_a_loss_that_is_not_finite_stops_with_its_step(tiny_recipe: Recipe, tmp_path: Path) -> None:
    wild = replace(tiny_recipe, optimizer=Optimizer(learning_rate=1e30))
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+: training stopped"):
        train(replace(wild, train=replace(wild.train, save_every=1)), tmp_path, CPU, False, silent)
    last = checkpoint.read(checkpoint.newest(tmp_path, wild.name))
    assert last.step >= 1
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_keeps_the_last_checkpoint(
    tiny_recipe: Recipe, tiny_assignments: list[str], tmp_path: Path
) -> None:
    """The system refuses files above a limit, as it does when the disk is full."""
    out = tmp_path / "run"
    short = replace(tiny_recipe, train=replace(tiny_recipe.train, steps=10))
    before = train(short, out, CPU, False, silent)
    content = before.read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(content) // 2},) * 2); "
        "from dtrain.cli import main; main()"
    )
    options = [word for assignment in tiny_assignments for word in ("--set", assignment)]
    words = [sys.executable, "-c", code, "run", "digits-unet", "--out", str(out), "--resume", *options]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert before.read_bytes() == content
    assert [path.name for path in out.glob("*.p*t")] == [before.name]
    assert not list(out.glob(".*"))


def test_bf16_and_compile_settings_are_obeyed(tiny_recipe: Recipe, tmp_path: Path) -> None:
    last = train(tiny_recipe, tmp_path / "fp32", CPU, False, silent)
    rounded = train(tiny_recipe, tmp_path / "bf16", replace(CPU, precision="bf16"), False, silent)
    full, half = (weights(path)["model.final_conv.weight"] for path in (last, rounded))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert torch.allclose(full, half, atol=0.02)


# ---- nothing is lost ------------------------------------------------------------------------------------


def test_two_runs_do_not_share_a_folder(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="another run is writing to"):
        train(tiny_recipe, tmp_path, CPU, False, silent)
    assert train(tiny_recipe, tmp_path, CPU, False, silent).is_file()


def test_a_folder_that_is_deleted_meanwhile(tiny_recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def report(what: str, done: int, total: int, note: str = "") -> None:
        if done == 15:
            shutil.rmtree(out)

    with pytest.raises(UserError, match="was deleted while the run wrote to it: start the run again"):
        train(tiny_recipe, out, CPU, False, report)


def test_too_little_memory_says_what_to_lower(tiny_recipe: Recipe, tmp_path: Path) -> None:
    def report(what: str, done: int, total: int, note: str = "") -> None:
        if done == 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(OutOfMemory, match=r"^training ran out of memory: lower train.batch_size, raise train.accum"):
        train(tiny_recipe, tmp_path, CPU, False, report)


def test_a_resumed_run_takes_its_settings_from_the_recipe(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Not from the optimizer's groups in a file."""
    with pytest.raises(Stop):
        train(tiny_recipe, tmp_path, CPU, False, stop_at(10))
    first = checkpoint.path_at(tmp_path, tiny_recipe, 10)
    content = torch.load(first, weights_only=True)
    content["optimizer"]["param_groups"][0].update(weight_decay=1e9, amsgrad=True)
    torch.save(content | {"sha256": checkpoint.content_digest(content)}, first)
    changed = checkpoint.read(train(tiny_recipe, tmp_path, CPU, True, silent))
    whole = checkpoint.read(train(tiny_recipe, tmp_path / "whole", CPU, False, silent))
    assert all(torch.equal(changed.model[name], tensor) for name, tensor in whole.model.items())
