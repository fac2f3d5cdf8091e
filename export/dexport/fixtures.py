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
from drun.loop import sample
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
    eager = _Eager(denoiser, on_call)
    arrays: dict[str, NDArray[Any]] = {}
    short = _settings("ddim", {"grid": "linspace"}, NUM_STATES)
    long = _settings(sampler.name, sampler.options, num_steps)
    arrays["trajectory0.out"] = eager.trajectory(short, max(BATCHES))
    calls = _calls(eager)
    arrays["trajectory1.out"] = eager.trajectory(long, 1)
    for i, (x, t, out) in enumerate(calls):
        arrays |= {f"call{i}.x": x, f"call{i}.t": np.array(t, np.float32), f"call{i}.out": out}
    runs = [(short, max(BATCHES)), (long, 1)]
    spec = {
        "calls": [float(t) for _, t, _ in calls],
        "trajectories": [{"settings": asdict(settings), "indices": list(range(n))} for settings, n in runs],
    }
    with path.open("wb") as file:
        np.savez(file, spec=np.array(json.dumps(spec)), allow_pickle=False, **arrays)


def num_calls(num_steps: int) -> int:
    """How often `write_golden` calls the network."""
    return NUM_STATES + num_steps + len(BATCHES) * (NUM_STATES + 1)


def _settings(name: str, options: dict[str, Any], num_steps: int) -> Settings:
    return Settings(name, samplers.resolve(name, options), num_steps, seed=SEED)


def _calls(eager: _Eager) -> list[tuple[NDArray[Any], float, NDArray[Any]]]:
    """Each batch size at each visited state, and at t = 1, where the sinusoid's slow half barely moves."""
    states = [*eager.visited, (eager.visited[-1][0], 1.0)]
    calls = []
    for x, t in states:
        for n in BATCHES:
            calls.append((x[:n], t, eager(torch.from_numpy(x[:n]), t, 1.0).numpy()))
    return calls


class _Eager:
    """The eager network, which remembers the states it was called on."""

    def __init__(self, denoiser: Denoiser, on_call: OnCall) -> None:
        self.denoiser, self.on_call = denoiser, on_call
        self.visited: list[tuple[NDArray[Any], float]] = []

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float, w: float) -> Tensor:
        output: Tensor = self.denoiser.network(x, torch.full((len(x),), t))
        self.on_call()
        return output

    def trajectory(self, settings: Settings, num_images: int) -> NDArray[Any]:
        denoiser = self.denoiser
        table = samplers.step_table(
            settings.sampler, denoiser.process, denoiser.prediction, settings.num_steps, settings.options
        )
        noise = PhiloxNoise(settings.seed, range(num_images), denoiser.image_shape)

        def remember(x: Tensor, t: float, w: float) -> Tensor:
            self.visited.append((x.numpy().copy(), t))
            return self(x, t, w)

        x = torch.from_numpy(noise())
        return np.asarray(sample(remember, x, table, lambda: torch.from_numpy(noise())))
