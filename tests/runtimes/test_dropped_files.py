"""The folders are the registries: one more sampler and one more backend are two new files, nothing edited."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drun as package

MakeBundle = Callable[..., Path]


Python = Callable[..., "subprocess.CompletedProcess[str]"]


RUNTIMES = Path(package.__file__).parents[1]


MAIN = "from drun.cli import main; main()"


def npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


SAMPLER = '''"""One jump, whatever the number of steps."""

from drun.diffusion.table import Step

CLIP_X0 = True


def steps(process, num_steps, *, strength: float = 1.0):
    return [Step(float(process.num_timesteps - 1), a=0.0, b=strength)]
'''


BACKEND = '''"""A backend in one file."""

from drun.backends.null import Runtime as Null


class Runtime(Null):
    summary = "the null backend again"
'''


@pytest.fixture
def extended(tmp_path: Path, bare: Path) -> list[Path]:
    """A copy of the package with one more sampler and one more backend: two new files, nothing edited."""
    copy = shutil.copytree(RUNTIMES / "drun", tmp_path / "copy" / "drun", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "diffusion" / "samplers" / "jump.py").write_text(SAMPLER)
    (copy / "backends" / "again.py").write_text(BACKEND)
    return [copy.parent, bare]


def test_a_dropped_in_file_is_found_by_name(
    make_bundle: MakeBundle, python: Python, extended: list[Path], tmp_path: Path
) -> None:
    make_bundle()
    listed = python("-c", MAIN, "samplers", path=extended).stdout
    assert f"{'jump':14} One jump, whatever the number of steps." in listed
    assert "strength=1.0 clip_x0=True dynamic_threshold=0.0" in listed
    assert "again    ready    the null backend again: built in" in python("-c", MAIN, "backends", path=extended).stdout
    options = ["--backend", "again", "--sampler", "jump", "--steps", "9", "--set", "strength=0.5", "-n", "2"]
    result = python("-c", MAIN, *options, path=extended)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out" / "tiny" / "again-jump-9-seed0-strength=0.5"
    assert record(folder)["settings"]["options"] == {"strength": 0.5, "clip_x0": True, "dynamic_threshold": 0.0}
    assert len(npz(folder / "samples.npz")["arr_0"]) == 2


def test_a_dropped_in_file_is_named_where_another_is_not_found(python: Python, extended: list[Path]) -> None:
    script = "from drun.diffusion import samplers; samplers.defaults('plms')"
    refused = python("-c", script, path=extended).stderr
    assert "choose one of ddim, ddpm, dpmpp_2m, euler, euler_maruyama, heun, jump" in refused
