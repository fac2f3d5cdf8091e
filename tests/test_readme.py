"""What the README prints works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from dtrain import config
from dtrain.device import Placement
from dtrain.train import rehearsal

README = Path(__file__).parents[1] / "README.md"
CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())


def test_its_recipe_trains_on_a_folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    Path("photos.toml").write_text(text)
    recipe = config.load("photos.toml")
    Path(recipe.data.source, "holidays").mkdir(parents=True)
    Image.new("RGB", (90, 70)).save(Path(recipe.data.source, "holidays", "a.jpg"))
    rehearsal.check(recipe, Path("runs", recipe.name), CPU, resume=False)
