"""A card says what its network puts out and how it is guided, and describes no model that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from drun.bundle.card import Card, Classes, Latent, StateSpace
from drun.diffusion.guidance import Guidance
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import BundleError

PIXELS = StateSpace("pixel", (3, 8, 4))


def card(**changes: Any) -> Card:
    return Card(DiscreteProcess("linear"), **{"prediction": "noise", "data": PIXELS} | changes)


def test_a_learned_variance_doubles_the_channels() -> None:
    assert card().output_shape == (3, 8, 4)
    assert card(variance="learned_range").output_shape == (6, 8, 4)


@pytest.mark.parametrize(
    ("classes", "can_guide", "null_label"),
    [(None, False, 0), (Classes(10, None), False, 0), (Classes(10, 10), True, 10), (Classes(10, 4), True, 4)],
)
def test_guidance_needs_a_label_for_no_class(classes: Classes | None, can_guide: bool, null_label: int) -> None:
    described = card(classes=classes, guided_channels=2)
    assert described.can_guide == can_guide
    assert described.guidance == Guidance(null_label, 2)


def test_states_are_latents_where_these_are_described() -> None:
    latent = Latent(vae="some", scale=(0.2, 0.2, 0.2), bias=(0.0, 0.0, 0.0))
    assert StateSpace.of((3, 8, 4)) == PIXELS
    assert StateSpace.of((3, 8, 4), latent) == StateSpace("latent", (3, 8, 4), latent=latent)
    with pytest.raises(BundleError, match="the latents' scale has 3 values, expected 4, one a channel"):
        StateSpace.of((4, 8, 4), latent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": "fixed"}, "variance got 'fixed', expected learned_range or null"),
        ({"prediction": "future"}, "prediction got 'future', expected one of noise, x0, velocity, score"),
        ({"guided_channels": 4}, "guided channels got 4, expected 1 to 3"),
        ({"guided_channels": -1}, "guided channels got -1, expected 1 to 3"),
    ],
)
def test_a_model_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        card(**changes)
    assert str(error.value) == message
