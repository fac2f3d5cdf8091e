"""The folders are the registries: new files are found where nothing else is installed, and errors name them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from copied import CopiedPackages

Python = Callable[..., "subprocess.CompletedProcess[str]"]

MAIN = "from drun.cli import main; main()"


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
    """The module path of copied packages with both files, and of numpy and Pillow."""
    packages = CopiedPackages(tmp_path / "copy")
    packages.add("runtimes/drun/diffusion/samplers/jump.py", SAMPLER)
    packages.add("runtimes/drun/backends/again.py", BACKEND)
    return [packages.folder / "runtimes", bare]


def test_a_dropped_in_file_is_found_where_nothing_else_is_installed(
    make_bundle: Callable[..., Path], python: Python, extended: list[Path], tmp_path: Path
) -> None:
    make_bundle()
    listed = python("-c", MAIN, "samplers", path=extended).stdout
    assert f"{'jump':14} One jump, whatever the number of steps." in listed
    assert "strength=1.0 clip_x0=True dynamic_threshold=0.0" in listed
    assert "again    ready    the null backend again: built in" in python("-c", MAIN, "backends", path=extended).stdout
    result = python("-c", MAIN, "--backend", "again", "--sampler", "jump", "--steps", "9", "-n", "2", path=extended)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "tiny" / "again-jump-9-seed0" / "samples.npz").is_file()


def test_a_dropped_in_file_is_named_where_another_is_not_found(python: Python, extended: list[Path]) -> None:
    script = "from drun.diffusion import samplers; samplers.defaults('plms')"
    refused = python("-c", script, path=extended).stderr
    assert "choose one of ddim, ddpm, dpmpp_2m, euler, euler_maruyama, heun, jump" in refused
