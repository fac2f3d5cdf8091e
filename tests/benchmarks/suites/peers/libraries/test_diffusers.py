"""diffusers' transformer on our weights: the same function, or a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agreement import error_of
from networks import small

from dbench.suites.peers.libraries import Ingredients, diffusers
from drun.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("of", ["sit_ingredients", "dit_ingredients"])
def test_it_computes_the_same_on_equal_weights(of: str, request: pytest.FixtureRequest) -> None:
    ingredients: Ingredients = request.getfixturevalue(of)
    fp32, bf16 = diffusers.peers(ingredients)
    assert error_of(fp32, ingredients, 2) < 1e-6
    assert 1e-4 < error_of(bf16, ingredients, 2) < 3e-2


def test_every_weight_has_its_place(dit_ingredients: Ingredients) -> None:
    state = dit_ingredients.network.state_dict()
    depth = len(dit_ingredients.network.blocks)  # type: ignore[arg-type]
    renamed = diffusers.renamed(state, depth)
    shared = [key for key in state if key.startswith(("t_embedder", "y_embedder"))]
    assert len(renamed) == len(state) - 1 + (depth - 1) * len(shared) + 2 * 2 * depth  # q, k and v lie apart


def test_a_network_that_computes_something_else_is_refused(dit_ingredients: Ingredients, monkeypatch: Any) -> None:
    """As with diffusers' own frequencies of time, which differ from the published DiT's."""
    right = diffusers.transformer_of

    def wrong(*arguments: Any) -> Any:
        found: Any = right(*arguments)
        for block in found.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 1
        return found

    monkeypatch.setattr(diffusers, "transformer_of", wrong)
    with pytest.raises(ConfigError, match=r"another one: relative L2 got .*, expected 1e-05"):
        diffusers.peers(dit_ingredients)


@pytest.mark.parametrize(
    ("name", "changes"), [("OneResUNet", {}), ("SiT", {"num_classes": 0}), ("SiT", {"qk_norm": True})]
)
def test_other_networks_are_left_out(name: str, changes: dict[str, Any], dit_ingredients: Ingredients) -> None:
    with pytest.raises(ConfigError, match=f"diffusers has no network like this {name}"):
        diffusers.peers(replace(dit_ingredients, network=small(name, **changes)))
