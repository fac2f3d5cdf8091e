"""An objective costs one file: its options are settings, it trains, and nothing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from copied import CopiedPackages, files_to_add

OBJECTIVE = '''
"""Mean error of the clean image, told from noise of one size."""

import torch

from drun.errors import ConfigError
from dtrain.objectives import Denoising


class Objective(Denoising):
    """prediction: x0.

    power: of the error.
    """

    def __init__(self, process, device, *, prediction: str = "x0", power: int = 2) -> None:
        if power < 1:
            raise ConfigError(f"power got {power}, expected at least 1")
        self.process, self.prediction, self.power = process, prediction, power

    def losses(self, predict, batch):
        t = torch.full((len(batch.x0),), 50.0)
        noise = torch.ones_like(batch.x0)
        noisy = float(self.process.alpha(50.0)) * batch.x0 + float(self.process.sigma(50.0)) * noise
        return {"loss": (predict(noisy, t, batch.labels) - batch.x0).abs().pow(self.power).mean()}
'''
SMALL = ["model.dim=8", "model.dim_mults=[1,2]", "train.steps=2", "train.batch_size=4", "train.log_every=1",
         "train.num_previews=1", "train.preview_steps=2"]  # fmt: skip


#: A section with its own name replaces the one below.
RECIPE = """
extends = "digits-unet"

[objective]
name  = "onesize"
power = 1
"""


@pytest.mark.slow
def test_an_objective_file_is_all(tmp_path: Path) -> None:
    packages = CopiedPackages(tmp_path)
    run = ["dtrain", "run", "digits-unet"] + [word for text in SMALL for word in ("--set", text)]
    packages.run([*run, "--out", "before"])
    packages.add("trainer/dtrain/objectives/onesize.py", OBJECTIVE)
    assert len(packages.added) == files_to_add("An objective")
    (tmp_path / "mine.toml").write_text(RECIPE)
    said = packages.run(
        ["dtrain", "settings"],
        [*run, "--out", "after"],
        ["dtrain", "run", "mine.toml", *run[3:], "--out", "own"],
        ["dtrain", "inspect", "own"],
    )
    assert "onesize" in said
    assert "of the error" in said
    assert "x0, variance not learned" in said
    losses = {
        name: [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("before", "after", "own")
    }
    assert losses["before"] == losses["after"] != losses["own"]
    assert 0.3 < losses["own"][0] < 1.2  # |x0| of digits, for a fresh network answers nearly 0
