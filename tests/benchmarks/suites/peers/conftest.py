"""Tiny transformers with random weights, and their bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dbench.core import timing
from dbench.core.record import Result
from dbench.suites.peers import Settings, measure
from dbench.suites.peers.libraries import Ingredients
from dbench.suites.peers.making import Subject, prepare
from drun.console import silent

SIZE = "model.size={hidden_size=32,depth=2,num_heads=2}"
#: A flow of pixels that predicts velocities.
SIT = Settings("digits-sit", assignments=(SIZE,), targets=("onnx", "openvino"), precisions=("fp32",), threads=1)
#: A chain of latents of 8x8 that predicts noise and a variance.
DIT = Settings(
    "dit-xl-2", assignments=(SIZE, "data.image_size=64", "model.num_classes=5"), targets=("onnx",), precisions=("fp32",)
)


@pytest.fixture(scope="session")
def sit(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(SIT, tmp_path_factory.mktemp("sit"), silent)


@pytest.fixture(scope="session")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare(DIT, tmp_path_factory.mktemp("dit"), silent)


def _ingredients(of: Subject, folder: Path) -> Ingredients:
    return Ingredients(of.denoiser.network.requires_grad_(False), of.denoiser.card, 1, folder, states=8)


@pytest.fixture(scope="session")
def sit_ingredients(sit: Subject, tmp_path_factory: pytest.TempPathFactory) -> Ingredients:
    return _ingredients(sit, tmp_path_factory.mktemp("sit-files"))


@pytest.fixture(scope="session")
def dit_ingredients(dit: Subject, tmp_path_factory: pytest.TempPathFactory) -> Ingredients:
    return _ingredients(dit, tmp_path_factory.mktemp("dit-files"))


@pytest.fixture(scope="session")
def of_sit(sit: Subject) -> Settings:
    """Of the bundle that is there."""
    return replace(SIT, bundle=sit.bundle.path, targets=())


@pytest.fixture(scope="session")
def result(of_sit: Settings) -> Result:
    """Everything in float32, measured once."""
    settings = replace(of_sit, peers=("diffusers", "openvino", "ort"), batches=(1, 2), steps=3, repeats=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "PAUSE_S", 0.0)
        return measure(settings, silent)
