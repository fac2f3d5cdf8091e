"""The golden file: what eager float32 PyTorch computes, carried in the bundle so that any machine can check it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun import samplers
from drun.bundle import Sampler
from drun.loop import Denoise, sample
from drun.noise import PhiloxNoise
from drun.run import Settings
from dtrain.published import Denoiser

SEED = 20
#: The batch sizes of the single calls, within every artifact's reach by padding and cutting.
BATCHES = (1, 3)
#: Single calls are taken from the states of this many steps, so that they are the inputs of real sampling.
NUM_STATES = 5
#: Progress: network calls done.
OnCall = Callable[[], None]


def write_golden(path: Path, denoiser: Denoiser, sampler: Sampler, num_steps: int, on_call: OnCall) -> None:
    """Write inputs and eager outputs of single calls and of same-noise trajectories.

    Args:
        sampler: the bundle's default, for the long trajectory.
        num_steps: its steps.
        on_call: called after each network call; see `num_calls`.
    """
    # Not from T - 1 on: there a cosine schedule's x0 is a difference of numbers 10^4 times larger.
    short = _settings("ddim", {"grid": "leading"}, NUM_STATES)
    long = _settings(sampler.name, sampler.options, num_steps)
    runs = [(short, max(BATCHES)), (long, 1)]
    visited: list[tuple[NDArray[Any], float]] = []

    @torch.no_grad()
    def eager(x: Tensor, t: float, w: float = 1.0) -> Tensor:
        output: Tensor = denoiser.network(x, torch.full((len(x),), t))
        on_call()
        return output

    def remembered(x: Tensor, t: float, w: float) -> Tensor:
        visited.append((x.numpy().copy(), t))
        return eager(x, t)

    arrays = {"trajectory0.out": _trajectory(remembered, denoiser, *runs[0])}
    arrays["trajectory1.out"] = _trajectory(eager, denoiser, *runs[1])
    states = [(visited[0][0], denoiser.process.num_timesteps - 1.0), *visited, (visited[-1][0], 1.0)]
    calls = [(x[:n], t) for x, t in states for n in BATCHES]
    for i, (x, t) in enumerate(calls):
        out = eager(torch.from_numpy(x), t).numpy()
        arrays |= {f"call{i}.x": x, f"call{i}.t": np.array(t, np.float32), f"call{i}.out": out}
    spec = {
        "calls": [t for _, t in calls],
        "trajectories": [{"settings": asdict(settings), "indices": list(range(n))} for settings, n in runs],
    }
    with path.open("wb") as file:
        np.savez(file, spec=np.array(json.dumps(spec)), allow_pickle=False, **arrays)


def num_calls(num_steps: int) -> int:
    """How often `write_golden` calls the network."""
    return NUM_STATES + num_steps + len(BATCHES) * (NUM_STATES + 2)


def _settings(name: str, options: dict[str, Any], num_steps: int) -> Settings:
    return Settings(name, samplers.resolve(name, options), num_steps, seed=SEED)


def _trajectory(denoise: Denoise, denoiser: Denoiser, settings: Settings, num_images: int) -> NDArray[Any]:
    """The final states of the samples 0..num_images-1, (N, C, H, W) float32."""
    table = samplers.step_table(
        settings.sampler, denoiser.process, denoiser.prediction, settings.num_steps, settings.options
    )
    noise = PhiloxNoise(settings.seed, range(num_images), denoiser.image_shape)
    x = torch.from_numpy(noise())
    return np.asarray(sample(denoise, x, table, lambda: torch.from_numpy(noise())))
