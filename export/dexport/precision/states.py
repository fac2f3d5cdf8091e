"""The inputs in a golden file: states of real trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from drun.foreign import read_npz


@dataclass(frozen=True)
class States:
    calls: tuple[tuple[Tensor, ...], ...]  # for each time x, t (N,) and, where there are classes, y
    latents: tuple[tuple[Tensor, ...], ...]  # z, if there is a decoder


def read_states(path: Path) -> States:
    """The inputs of the largest call at each time, x (N, C, H, W), t (N,), y (N,), and z (N, C, H, W) of the decoder.

    Raises:
        DataError: it is not an .npz file. KeyError: it is not a golden file.
    """
    arrays = {key: torch.from_numpy(array) for key, array in read_npz(path).items() if array.dtype.kind in "fi"}
    calls: dict[float, tuple[Tensor, ...]] = {}
    for i in range(sum(key.endswith(".t") for key in arrays)):
        x, t = arrays[f"call{i}.x"], arrays[f"call{i}.t"]
        labels = (arrays[f"call{i}.y"],) if f"call{i}.y" in arrays else ()
        if len(x) >= len(calls.get(float(t), ((),))[0]):
            calls[float(t)] = (x, t.expand(len(x)), *labels)
    return States(tuple(calls.values()), ((arrays["decoder.z"],),) if "decoder.z" in arrays else ())
