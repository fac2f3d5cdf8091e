"""A model family of our own costs one model file and one recipe: trained, inspected, exported, proven and sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from copied import CopiedPackages, files_to_add
from PIL import Image

MODEL = '''\
"""A plain convolution net."""

from torch import Tensor, nn

from drun.bundle.card import Classes, Shape
from dtrain.models import Network


class PlainNet(Network):
    """Three convolutions, the first of them told time and class.

    width: channels of the layers within.
    num_classes: number of labels.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.config = {"name": "PlainNet", "width": width, "num_classes": num_classes}
        self.classes = Classes(num_classes, num_classes)
        self.time, self.label = nn.Linear(1, width), nn.Embedding(num_classes + 1, width)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.rest = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU(),
                                  nn.Conv2d(width, 1, 3, padding=1))

    def state_shape(self, side: int) -> Shape:
        return 1, side, side

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        condition = self.time(t[:, None].to(x.dtype)) + self.label(y)
        return self.rest(self.first(x) + condition[:, :, None, None])


MODELS = {"PlainNet": PlainNet}
'''
RECIPE = """\
# A plain convolution net on digits.

extends = "digits-sit"

[model]
name        = "PlainNet"
width       = 4
num_classes = 10

[data]
image_size = 8

[train]
steps         = 2
batch_size    = 4
log_every     = 1
save_every    = 2
preview_every = 2
num_previews  = 2
preview_steps = 2
"""


@pytest.mark.slow
def test_a_model_file_and_a_recipe_are_all(tmp_path: Path) -> None:
    packages = CopiedPackages(tmp_path)
    packages.add("trainer/dtrain/models/plain.py", MODEL)
    packages.add("trainer/dtrain/recipes/plain.toml", RECIPE)
    assert len(packages.added) == files_to_add("A model")
    checkpoint = "runs/plain/plain-0000002.pt"
    said = packages.run(
        ["dtrain", "recipes"],
        ["dtrain", "settings"],
        ["dtrain", "run", "plain"],
        ["dtrain", "inspect", checkpoint],
        ["dexport", "onnx", checkpoint, "--weights", "online", "--batch", "1..4", "--quick"],
        [
            "drun",
            "--bundle",
            "bundles/plain-0000002-online",
            "--steps",
            "2",
            "-n",
            "3",
            "--cfg",
            "2",
            "--out",
            "samples",
        ],
    )
    # time, label, first, the two convolutions within and at the end, and the norm between them
    count = 8 + 44 + 40 + 148 + 8 + 37
    assert f"plain-0000002.pt: PlainNet, {count} parameters" in said
    assert "10, null label 10" in said
    assert "width                  needed                 channels of the layers within" in said
    assert "A plain convolution net on digits." in said
    images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "samples").glob("0*.png"))]
    assert [image.shape for image in images] == [(8, 8)] * 3
    assert (tmp_path / "runs" / "plain" / "previews" / "step-0000002.png").exists()
