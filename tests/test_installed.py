"""What a user gets: a bare install without PyTorch, and commands that are spelled as the README spells them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = ("drun", "dtrain", "dexport", "dbench")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with `pip install .` and no extras."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*install, "-c", ROOT / "constraints.txt", ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def test_a_bare_install_runs_drun_and_has_no_torch(bare_python: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([bare_python.parent / words[0], *words[1:]], cwd=tmp_path, capture_output=True, text=True)

    assert run("python", "-c", "import torch").returncode != 0
    assert "--steps" in run("drun", "--help").stdout
    assert "dpmpp_2m" in run("drun", "samplers").stdout
    missing = run("drun", "backends").stdout
    assert "onnxruntime is not installed" in missing
    assert "pip install 'dexport[ort]'" in missing
    for command in COMMANDS:
        assert run(command, "--help").returncode == 0
    for words, extra in (
        (["dtrain", "run", "digits-unet"], "train"), (["dtrain", "inspect", "x.pt"], "train"),
        (["dexport", "onnx", "x.pt"], "onnx"), (["dbench", "train", "digits-unet"], "bench"),
    ):  # fmt: skip
        line = f"error: this command needs torch: pip install 'dexport[{extra}]'\n"
        assert ((done := run(*words)).returncode, done.stderr) == (1, line)


def test_the_wheel_holds_four_typed_packages_and_nothing_else(bare_python: Path) -> None:
    code = "from importlib.metadata import files; print(*files('dexport'), sep=chr(10))"
    names = subprocess.run([bare_python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.split("/")[0] for name in names if "/" in name and not name.startswith(("..", "dexport-"))}
    assert packages == {"drun", "dtrain", "dexport", "dbench"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert "dtrain/recipes/digits-unet.toml" in names


def tour() -> list[str]:
    """The commands in the README's code blocks, without their comments."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(COMMANDS)]


def test_the_readme_shows_every_command() -> None:
    assert {line.split()[0] for line in tour()} == set(COMMANDS)


@pytest.mark.parametrize("line", tour())
def test_the_readmes_options_exist(line: str) -> None:
    package, *words = shlex.split(line)
    subcommand = [words[0]] if words and not words[0].startswith("-") else []
    code = f"from {package}.cli import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code, *subcommand, "--help"], capture_output=True, text=True, env={"COLUMNS": "200"}
    )
    assert shown.returncode == 0, shown.stderr
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<!\S){option}(?!\S)", shown.stdout), f"{package} has no {option}"
