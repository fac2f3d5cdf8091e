"""Two tiny networks, whose graphs all tests share; a graph is made once a session."""

from __future__ import annotations

import pytest

from dbench.core import timing
from dbench.suites.graphs import measuring, subjects
from dbench.suites.graphs.settings import GraphsSettings
from dbench.suites.graphs.source import Original
from drun.console import silent

TINY_UNET = ("model.dim=8", "model.dim_mults=[1,2]")
TINY_SIT = ("model.size={ hidden_size = 32, depth = 1, num_heads = 2 }",)


def original(recipe: str, assignments: tuple[str, ...], factory: pytest.TempPathFactory) -> Original:
    folder = factory.mktemp("graphs")
    loaded = subjects.load(GraphsSettings(recipe, assignments=assignments), folder)
    return measuring.original_of(loaded.denoiser, folder, silent)


@pytest.fixture(scope="session")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return original("digits-unet", TINY_UNET, tmp_path_factory)


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return original("digits-sit", TINY_SIT, tmp_path_factory)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements without pauses between them."""
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
