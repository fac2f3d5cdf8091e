"""REPA's keys of before and its projectors."""

from __future__ import annotations

import torch
from torch import Tensor

from dtrain.published.families.transformer.keys import projector_notes, sampling_keys


def named(*keys: str) -> dict[str, Tensor]:
    return {key: torch.full((2,), float(i)) for i, key in enumerate(keys)}


def test_todays_keys_stay_as_they_are() -> None:
    state = named("pos_embed", "blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight", "final_layer.linear.bias")
    assert sampling_keys(state) == (state, ())


def test_decoder_blocks_follow_the_others() -> None:
    state = named("blocks.0.a", "blocks.1.a", "decoder_blocks.0.a", "decoder_blocks.1.a.b")
    renamed, notes = sampling_keys(state)
    assert list(renamed) == ["blocks.0.a", "blocks.1.a", "blocks.2.a", "blocks.3.a.b"]
    assert [float(value[0]) for value in renamed.values()] == [0, 1, 2, 3]
    assert notes == ("decoder_blocks 0 to 1 are blocks 2 to 3: REPA's early layout",)


def test_projectors_are_left_out_and_their_teachers_widths_said() -> None:
    layers = {"projectors.1.0.weight": torch.ones(5, 3), "projectors.1.2.weight": torch.ones(9, 5)}
    state = named("pos_embed") | layers | {"projectors.0.conv.weight": torch.ones(7, 3, 3, 3)}
    kept, notes = sampling_keys(state)
    assert list(kept) == ["pos_embed"]
    assert notes == ("projectors to 2 teachers of 7, 9 dimensions dropped: they are for training",)
    assert projector_notes(state) == notes
    assert projector_notes(kept) == ()
