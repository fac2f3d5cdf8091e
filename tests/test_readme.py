"""What the README prints works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import export, load_trained
from PIL import Image

from dexport.proof import QUICK_PROOF
from dtrain import config, models
from dtrain.checkpoints import ours
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
