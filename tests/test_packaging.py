"""What is uploaded to a package index: complete, and with a description that reads well there."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"drun": "runtimes", "dtrain": "trainer", "dexport": "export", "dbench": "benchmarks"}
HOOK = runpy.run_path(str(ROOT / "hatch_build.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted(folder.iterdir(), key=lambda path: path.suffix)


@pytest.fixture(scope="module")
def metadata(built: list[Path]) -> Message:
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(wheel.read(name).decode())


def test_an_index_accepts_both(built: list[Path]) -> None:
    assert [path.suffix for path in built] == [".gz", ".whl"]
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_holds_every_file_of_the_packages(built: list[Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = [path for package, folder in SOURCES.items() for path in (ROOT / folder / package).rglob("*")]
    kept = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    assert held == {path.relative_to(ROOT / SOURCES[path.relative_to(ROOT).parts[1]]).as_posix() for path in kept}
    assert {".py", ".toml", ".css", ".typed"} <= {Path(name).suffix for name in held}


def test_the_sdist_holds_what_it_is_built_and_tested_from(built: list[Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "tests/test_packaging.py"} <= names


def test_who_made_it_and_what_it_is_for(metadata: Message) -> None:
    assert metadata["Author"] == "The dexport authors"
    assert {"DDPM", "ONNX"} <= set(metadata["Keywords"].split(","))
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_metadata_take_a_range_of_torch_and_the_constraints_the_tested_one(metadata: Message) -> None:
    lines = [line.partition(";")[0].strip() for line in metadata.get_all("Requires-Dist", [])]
    (torch,) = {line for line in lines if re.match(r"torch\b", line)}
    assert re.fullmatch(r"torch<[\d.]+,>=[\d.]+", torch)
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_the_long_description_links_to_nothing_beside_it(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert text.startswith("# dexport")
    assert "## How it is built" in text
    assert not HOOK["RELATIVE"].findall(text)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("![a b](docs/a.png) [c](C.md)", "![a b](u/raw/HEAD/docs/a.png) [c](u/blob/HEAD/C.md)"),
        ("[x](https://x.org/a) [y](#part) [z](mailto:a@b)", "[x](https://x.org/a) [y](#part) [z](mailto:a@b)"),
        ("x[0, 0.7] (a)", "x[0, 0.7] (a)"),
    ],
)
def test_relative_links_become_absolute(markdown: str, expected: str) -> None:
    assert HOOK["absolute"](markdown, "u") == expected


def test_without_a_repository_links_become_their_words() -> None:
    text = "![two digits](docs/a.png) [c](C.md) [x](https://x.org)"
    assert HOOK["absolute"](text, "") == "two digits c [x](https://x.org)"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = HOOK["RELATIVE"].finditer((ROOT / "README.md").read_text())
    assert [link["path"] for link in links if not (ROOT / link["path"]).exists()] == []
    assert re.search(r"!\[[^\]]+\]\(docs/", (ROOT / "README.md").read_text())
