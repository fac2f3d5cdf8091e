"""A missing library is named with the extra that brings it, by the metadata of the package itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from drun.extras import install_line

ROOT = Path(__file__).parents[2]
PACKAGES = {"drun": "runtimes", "dtrain": "trainer", "dexport": "export", "dbench": "benchmarks"}
ALWAYS_THERE = {"numpy", "PIL", "rich", "typer"}


@pytest.mark.parametrize(
    ("module", "usual", "extra"),
    [
        ("torch", None, "pt2"), ("torch", "onnx", "onnx"), ("torch.nn.functional", "bench", "bench"),
        ("transformers", "train", "repa"), ("diffusers", "onnx", "latents"), ("sklearn.datasets", "train", "train"),
        ("onnxruntime", None, "ort"), ("onnxscript", "train", "onnx"), ("tensorboard", "train", "train"),
    ],
)  # fmt: skip
def test_the_extra_of_the_command_or_the_smallest(
    module: str, usual: str | None, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    assert install_line(module, usual) == f"pip install 'dexport[{extra}]'"


def test_a_library_that_a_finder_withholds_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Withholds:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "torch":
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Withholds, *sys.meta_path])
    assert install_line("torch", "train") == "pip install 'dexport[train]'"


def test_nothing_is_said_of_what_is_installed_or_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert install_line("torch", "train") is None  # a broken installation is another matter
    assert install_line("jax", "train") is None
    assert install_line("", "train") is None

    def fail(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", fail)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert install_line("torch", "train") is None


def imported(path: Path) -> set[str]:
    """The first names of what a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    of_others = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in plain | of_others}


def test_every_library_that_is_imported_is_brought_by_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path for package, folder in PACKAGES.items() for path in (ROOT / folder / package).rglob("*.py")]
    libraries = set.union(*map(imported, files)) - sys.stdlib_module_names - set(PACKAGES) - ALWAYS_THERE
    assert libraries >= {"torch", "onnx", "einops", "sklearn", "accelerate", "safetensors"}
    for name in libraries:
        monkeypatch.setitem(sys.modules, name, None)
        assert install_line(name), name


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["dtrain", "run", "digits-unet"], "torch", "train"),
        (["dtrain", "inspect", "x.pt"], "torch", "train"),
        (["dtrain", "inspect", "x.safetensors"], "safetensors", "train"),
        (["dexport", "onnx", "x.pt"], "torch", "onnx"),
        (["dbench", "train", "digits-unet"], "torch", "bench"),
    ],
)
def test_commands_where_a_library_is_missing(arguments: list[str], module: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    package, *words = arguments
    code = f"import sys; sys.modules['{module}'] = None; from {package}.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: this command needs {module}: pip install 'dexport[{extra}]'\n"
