"""Brings the keys of a transformer's weights to today's layout, and leaves REPA's projectors out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dtrain.checkpoints.layouts import State


def sampling_keys(state: State) -> tuple[State, tuple[str, ...]]:
    """A transformer's weights under today's keys and without REPA's projectors, and notes on these changes.

    Early REPA called the blocks after the aligned one `decoder_blocks`; projectors are used in training only.
    """
    notes = []
    if depth := _num_decoder_blocks(state):
        first = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        state = {_today(key, first): value for key, value in state.items()}
        notes.append(f"decoder_blocks 0 to {depth - 1} are blocks {first} to {first + depth - 1}: REPA's early layout")
    notes += projector_notes(state)
    return {key: value for key, value in state.items() if not key.startswith("projectors.")}, tuple(notes)


def projector_notes(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """A note on REPA's projectors, if there are any: the widths of the teachers that they map to."""
    if not (dims := _projector_dims(state)):
        return ()
    teachers = "a teacher" if len(dims) == 1 else f"{len(dims)} teachers"
    return (f"projectors to {teachers} of {', '.join(map(str, dims))} dimensions dropped: they are for training",)


def _projector_dims(state: Mapping[str, Tensor]) -> list[int]:
    rows: dict[str, tuple[int, int]] = {}
    for key, value in state.items():
        name, index, layer, *_ = [*key.split("."), "", ""]
        if name == "projectors" and value.ndim:
            # The last layer of an MLP; a convolution has no number.
            rows[index] = max(rows.get(index, (-1, 0)), (int(layer) if layer.isdecimal() else -1, len(value)))
    return [dim for _, (_, dim) in sorted(rows.items())]


def _num_decoder_blocks(state: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in state if key.startswith("decoder_blocks.")})


def _today(key: str, first: int) -> str:
    name, _, rest = key.partition(".")
    index, _, rest = rest.partition(".")
    return f"blocks.{first + int(index)}.{rest}" if name == "decoder_blocks" and index.isdecimal() else key
