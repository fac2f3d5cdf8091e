import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TINY = ["--set", "model.dim=8", "--set", "model.dim_mults=[1,2]", "--set", "train.batch_size=4"]


def dtrain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from dtrain.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


def test_recipes_and_dry_run_need_no_torch(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['torch'] = None; from dtrain.cli import main; main()"
    for arguments in (["recipes"], ["run", "digits-unet", "--dry-run", "--set", "train.steps=9"], ["--help"]):
        done = subprocess.run([sys.executable, "-c", blocked, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "aerial-128" in dtrain("recipes", cwd=tmp_path).stdout
    printed = dtrain("run", "digits-unet", "--dry-run", "--set", "train.steps=9", cwd=tmp_path).stdout
    assert json.loads(printed)["train"]["steps"] == 9
    assert not list(tmp_path.iterdir())


def test_run_and_resume_from_the_command_line(tmp_path: Path) -> None:
    done = dtrain("run", "digits-unet", *TINY, "--set", "train.steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "runs" / "digits-unet" / "digits-unet-0000002.pt"
    assert checkpoint.is_file()
    assert "device cpu" in done.stdout
    assert f"dexport onnx {checkpoint.relative_to(tmp_path)}" in done.stdout
    assert "watch it: tensorboard --logdir runs/digits-unet/tensorboard" in done.stdout.splitlines()
    done = dtrain("run", "digits-unet", *TINY, "--set", "train.steps=4", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert checkpoint.with_name("digits-unet-0000004.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "cats"], "unknown recipe 'cats': choose one of"),
        (["run", "aerial-128"], "--data"),
        (["run", "aerial-128", "--data", "nowhere"], "nowhere"),
        (["run", "digits-unet", "--device", "tpu"], "unknown device 'tpu'"),
        (["run", "digits-unet", "--resume"], "nothing to resume"),
        (["tiles", "nowhere", "out"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = dtrain(*arguments, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr


def test_tiles_from_the_command_line(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    np.save(tmp_path / "frames.npy", stack)
    done = dtrain("tiles", "frames.npy", "cut", "--size", "16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cut" / "train").glob("*.png"))) == 3 * 4
    assert "12 tiles" in done.stdout
