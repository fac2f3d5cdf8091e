"""A tiny real model, once a session: trained, exported and sampled by the project's own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from exporting import export, load_trained

import drun
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.run import folder
from drun.run.output import Output
from drun.settings import SamplingSettings
from dtrain import config, device
from dtrain.train.loop import train

RECIPE = [
    "model.dim=8", "model.dim_mults=[1,2]", "train.steps=2", "train.batch_size=4", "train.log_every=1",
    "train.num_previews=1", "train.preview_steps=1", "process.schedule=linear",
]  # fmt: skip
NUM_IMAGES = 6


@dataclass(frozen=True)
class Model:
    """The folders and files of one model."""

    run: Path
    checkpoint: Path
    bundle: Path
    samples: Path
    animation: Path

    def open(self) -> Bundle:
        return bundles.read(self.bundle)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    root = tmp_path_factory.mktemp("model")
    run, bundle, samples, animation = (root / name for name in ("run", "tiny", "samples", "film.webp"))
    checkpoint = train(config.load("digits-unet", RECIPE), run, device.choose("cpu", "fp32", "off"), False, silent)
    export(load_trained(checkpoint), bundle)
    output = Output(samples, NUM_IMAGES, batch=4, trajectory=animation)
    with drun.load(bundle).session("ort", threads=1) as session:
        sampling = session.sampling(SamplingSettings("ddpm", {"clip_x0": True}, num_steps=3))
        folder.run(session, sampling, output, silent)
    return Model(run, checkpoint, bundle, samples, animation)


@pytest.fixture
def dbench(in_process: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    return in_process("dbench")
