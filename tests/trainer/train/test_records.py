from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drun.console import silent
from dtrain.config import Ema, Recipe
from dtrain.device import Placement
from dtrain.train.loop import train

CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())


def test_the_preview_of_a_run_is_a_file_and_in_tensorboard(tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path, CPU, False, silent)
    written = np.asarray(Image.open(tmp_path / "previews" / "step-0000020.png"))
    assert written.shape == (18 + 68, 2 * 68)
    (event,) = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Images("preview")
    assert event.step == 20
    shown = np.asarray(Image.open(BytesIO(event.encoded_image_string)))
    np.testing.assert_array_equal(shown, np.stack([written] * 3, axis=-1))


def test_a_run_that_keeps_initial_weights_says_so_at_its_start_and_its_end_alone(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It saves two checkpoints."""
    train(tiny_recipe, tmp_path / "own", CPU, False, silent)
    assert capsys.readouterr().err == ""
    last = train(replace(tiny_recipe, ema=Ema("constant", 0.9, 1)), tmp_path / "short", CPU, False, silent)
    early, late = capsys.readouterr().err.splitlines()
    assert early.startswith("warning: the average holds more than 1 % of the initial weights until step 44, and this")
    assert late.startswith(f"warning: the average in '{last}' still holds 12.2 % of the initial weights at step 20")
