"""`drun` where PyTorch and the runtimes are not installed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import drun as package

MakeBundle = Callable[..., Path]


Python = Callable[..., "subprocess.CompletedProcess[str]"]


RUNTIMES = Path(package.__file__).parents[1]


MAIN = "from drun.cli import main; main()"


IMPORT_ALL = """
import importlib, pkgutil, sys
import drun
names = [module.name for module in pkgutil.walk_packages(drun.__path__, "drun.")]
for name in names:
    importlib.import_module(name)
assert len(names) > 25, names
assert not {"torch", "onnx", "onnxruntime", "dtrain", "dexport", "dbench"} & set(sys.modules)
"""


def test_importing_every_module_has_no_side_effects(python: Python, bare: Path, tmp_path: Path) -> None:
    result = python("-W", "error", "-c", IMPORT_ALL, path=[bare, RUNTIMES])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "Sample images from a bundle on any backend"),
        (["samplers"], "Ancestral sampling of the reverse chain"),
        (["info", "bundles/tiny"], "schedule=linear num_timesteps=100"),
        (["--backend", "null", "--steps", "3", "-n", "2"], "2 images computed"),
        (["backends"], "ort      missing  ONNX Runtime: onnxruntime is not installed"),
        (["backends"], "                  pip install 'dexport[ort]'"),
        (["backends"], "pt2      missing  PyTorch, a torch.export program: torch is not installed"),
        (["backends"], "                  pip install 'dexport[pt2]'"),
    ],
)
def test_commands_without_torch_and_onnxruntime(
    make_bundle: MakeBundle, python: Python, bare: Path, arguments: list[str], text: str
) -> None:
    make_bundle()
    result = python("-c", MAIN, *arguments, path=[bare, RUNTIMES])
    assert result.returncode == 0, result.stderr
    assert text in result.stdout


def test_a_backend_that_is_not_installed(make_bundle: MakeBundle, python: Python, bare: Path, tmp_path: Path) -> None:
    make_bundle()
    result = python("-c", MAIN, "--backend", "ort", "--steps", "3", path=[bare, RUNTIMES])
    assert result.returncode == 1
    assert result.stderr == (
        "error: backend 'ort' is not available: onnxruntime is not installed; "
        "install it with: pip install 'dexport[ort]' (or 'dexport[ort-gpu]' for NVIDIA GPUs)\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_backend_that_does_not_load(make_bundle: MakeBundle, python: Python, bare: Path, tmp_path: Path) -> None:
    """As where a shared library is missing."""
    make_bundle()
    (tmp_path / "stub" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "stub" / "onnxruntime" / "__init__.py").write_text("raise ImportError('libcudart.so: no such file')")
    result = python("-c", MAIN, "--steps", "3", path=[tmp_path / "stub", bare, RUNTIMES])
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: no backend here can open 'bundles/tiny': 'ort' is not available, onnxruntime is installed but does not "
        "load (libcudart.so: no such file); install it with: pip install"
    )
    assert result.stderr.count("\n") == 1
