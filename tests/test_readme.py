"""What the README prints works as printed, and every document prints commands and options that there are."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import export, load_trained
from PIL import Image
from typer.main import get_command

from dexport.proof import QUICK_PROOF
from dtrain import config, models
from dtrain.checkpoints import ours
from dtrain.device import Placement
from dtrain.train import rehearsal

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"]
CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())


def test_its_recipe_trains_on_a_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    Path("photos.toml").write_text(text)
    recipe = config.load("photos.toml")
    Path(recipe.data.source, "holidays").mkdir(parents=True)
    Image.new("RGB", (90, 70)).save(Path(recipe.data.source, "holidays", "a.jpg"))
    rehearsal.check(recipe, Path("runs", recipe.name), CPU, resume=False)


def test_its_library_example_draws_four_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (name,) = re.findall(r'drun\.load\("(.*?)"\)', code)
    monkeypatch.chdir(tmp_path)
    sections = config.load("digits-unet").to_dict()
    sections["model"] |= {"dim": 8, "init_dim": 8, "dim_mults": [1, 2]}
    recipe = config.from_dict(sections)
    torch.manual_seed(0)
    network = models.build(recipe.model)
    saved = ours.Checkpoint(recipe, 1, network.state_dict(), network.state_dict(), {})
    export(load_trained(ours.save(saved, tmp_path, keep=1)), Path(name), proof=QUICK_PROOF)
    found: dict[str, np.ndarray] = {}
    exec(code, found)
    images = found["images"]
    assert images.shape == (4, 16, 16, 1)
    assert images.dtype == np.uint8
    assert len(np.unique(images, axis=0)) == 4


def command_lines() -> list[str]:
    """Those of our commands, in the code blocks of the documents."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    blocks = [block for text in texts for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if re.match(r"(dtrain|dexport|drun|dbench) ", line)]


def unknown_words(line: str) -> set[str]:
    """What neither the app nor its command knows; a bare `drun` samples."""
    package, *words = shlex.split(line, comments=True)
    app = get_command(import_module(f"{package}.cli").app)
    name = "sample" if package == "drun" and words[0].startswith("-") else words.pop(0)
    if name not in app.commands:
        return {name}
    options = [option for command in (app, app.commands[name]) for option in command.params]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    return {word.partition("=")[0] for word in words if word.startswith("-")} - known


def test_every_document_prints_commands_and_options_that_there_are() -> None:
    lines = command_lines()
    assert len(lines) > 25
    assert {line: unknown for line in lines if (unknown := unknown_words(line))} == {}
    assert unknown_words("dtrain walk") == {"walk"}
    assert unknown_words("drun --steps 3 --stepz=4  # --no") == {"--stepz"}
