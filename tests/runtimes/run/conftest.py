from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from decoders import STATE
from runs import draw, results

from drun.bundle.card import StateSpace
from drun.bundle.reading import Bundle


@pytest.fixture
def whole(bundle: Bundle, tmp_path: Path) -> dict[str, bytes]:
    """The results of one uninterrupted run of 7 images."""
    draw(bundle, tmp_path / "whole")
    return results(tmp_path / "whole")


@pytest.fixture
def latents(make_bundle: Callable[..., Path]) -> Path:
    """A bundle of latents that has no decoder yet; see `decoders.with_decoder`."""
    return make_bundle("latents", data=StateSpace("latent", STATE))
