"""The golden file: what eager float32 PyTorch computes, carried in the bundle so that any machine can check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dexport.latents import ImageDecoder
from drun.bundle.card import Classes
from drun.console import Report
from drun.diffusion import samplers
from drun.diffusion.guidance import Guided, Predict, with_guidance
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import StepTable
from drun.run import labels
from drun.run.sampling import SamplingSettings
from dtrain.published import Denoiser

SEED = 20
#: Samples of the short trajectory, within every artifact's reach by padding and cutting.
SHORT_BATCH = 3
#: Guidance weight of the long trajectory.
CFG = 1.5
#: A single call close to the data: time index, and depth in the noise of a flow.
NEAR_DATA_INDEX, NEAR_DATA_DEPTH = 1.0, 0.02
#: Larger images are kept one at a time: the golden file travels with the bundle.
SMALL_SIDE = 128

Array = NDArray[Any]


@dataclass(frozen=True)
class Proof:
    """How much a golden file holds. Single calls start from states of the short trajectory: inputs of real sampling."""

    num_states: int  # steps of the short trajectory
    batches: tuple[int, ...]  # batch sizes of the single calls, at most SHORT_BATCH
    num_steps: int  # of the trajectory with the bundle's own sampler; 0: there is none
    is_quick: bool


#: A tenth of the work or less: guidance and the bundle's own sampler are left to the tests of `drun`.
QUICK_PROOF = Proof(2, (1,), 0, is_quick=True)


def full_proof(num_steps: int = 25) -> Proof:
    """What every bundle should hold, with `num_steps` of its own sampler."""
    return Proof(5, (1, SHORT_BATCH), num_steps, is_quick=False)


@dataclass(frozen=True)
class Trajectory:
    """The samples `indices` on the same noise as a runtime's."""

    settings: SamplingSettings
    indices: range
    table: StepTable


class Eager:
    """The trained network, in eager float32 PyTorch, as `drun` calls one.

    Args:
        num_calls: how many there will be, for the report.
    """

    def __init__(self, network: nn.Module, num_calls: int, report: Report) -> None:
        self.network, self.num_calls, self.report = network, num_calls, report
        self.done = 0

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float, y: Tensor | None) -> Tensor:
        """x: (N, C, H, W) float32, y: (N,) int64 or None -> (N, C or 2 C, H, W)."""
        times = torch.full((len(x),), t)
        output: Tensor = self.network(x, times) if y is None else self.network(x, times, y)
        self.done += 1
        self.report("computing the reference in eager PyTorch", self.done, self.num_calls)
        return output


def write_golden(
    path: Path, denoiser: Denoiser, proof: Proof, report: Report, decoder: ImageDecoder | None = None
) -> None:
    """Write inputs and eager outputs: single calls, same-noise trajectories and, of a latent model, decoded images.

    Raises:
        ConfigError: the sampler cannot make `proof.num_steps` steps of the process.
    """
    runs = trajectories(denoiser, proof)
    moments = call_moments(denoiser.card.process, runs[0].table)
    num_calls = sum(len(run.table.rows) for run in runs) + len(moments) * len(proof.batches)
    eager = Eager(denoiser.network, num_calls, report)
    states: list[Array] = []

    def remembered(x: Tensor, t: float, y: Tensor | None) -> Tensor:
        states.append(x.numpy().copy())
        return eager(x, t, y)

    finals = [_run(remembered, denoiser, runs[0]), *(_run(eager, denoiser, run) for run in runs[1:])]
    arrays = {f"trajectory{i}.out": final for i, final in enumerate(finals)}
    for i, call in enumerate(single_calls(states, moments, denoiser.card.classes, proof.batches)):
        out = eager(torch.from_numpy(call["x"]), float(call["t"]), _tensor(call.get("y"))).numpy()
        arrays |= {f"call{i}.{key}": value for key, value in (call | {"out": out}).items()}
    if decoder is not None:
        arrays |= _decoded(decoder, finals[0])
    spec = {
        "calls": [t for _, t in moments for _ in proof.batches],
        "trajectories": [{"settings": asdict(run.settings), "indices": list(run.indices)} for run in runs],
        "decoded": len(arrays.get("decoder.z", ())),
    }
    with path.open("wb") as file:
        np.savez(file, spec=np.array(json.dumps(spec)), allow_pickle=False, **arrays)


def trajectories(denoiser: Denoiser, proof: Proof) -> list[Trajectory]:
    """A short one of a batch, and one of the bundle's own sampler; guided, where the network can be."""
    sampler = denoiser.card.sampler
    # Not from T - 1 on: there a cosine schedule's x0 is a difference of numbers 10^4 times larger.
    grid = "auto" if isinstance(denoiser.card.process, FlowProcess) else "leading"
    short = SamplingSettings(
        "ddim", {"grid": grid, "clip_x0": denoiser.card.data.latent is None}, proof.num_states, SEED
    )
    runs = [_trajectory(denoiser, short, range(SHORT_BATCH))]
    if proof.num_steps:
        cfg = CFG if denoiser.card.can_guide else 1.0
        long = SamplingSettings(sampler.name, sampler.options, proof.num_steps, SEED, cfg=cfg)
        runs.append(_trajectory(denoiser, long, range(1)))
    return runs


def _trajectory(denoiser: Denoiser, settings: SamplingSettings, indices: range) -> Trajectory:
    # With all options, so that it is replayed the same by a version with other defaults.
    settings = replace(settings, options=samplers.resolve(settings.sampler, settings.options))
    table = samplers.step_table(
        settings.sampler, denoiser.card.process, denoiser.card.prediction, settings.num_steps, settings.options,
        denoiser.card.variance,
    )  # fmt: skip
    return Trajectory(settings, indices, with_guidance(table, settings.cfg, settings.interval))


def _run(predict: Predict, denoiser: Denoiser, run: Trajectory) -> Array:
    """The final states, (N, C, H, W) float32."""
    settings, classes = run.settings, denoiser.card.classes
    noise = PhiloxNoise(settings.seed, run.indices, denoiser.card.data.shape)
    chosen = labels.choose(settings.labels, run.indices, classes, settings.seed, guided=settings.cfg != 1)
    guided = Guided(predict, _tensor(chosen), denoiser.card.guidance)
    x = torch.from_numpy(noise())
    return np.asarray(sample(guided, x, run.table, lambda: torch.from_numpy(noise())))


def call_moments(process: Process, table: StepTable) -> list[tuple[int, float]]:
    """The single calls: with the state before which row of the table, and at which time; both ends of time included."""
    moments = [(i, row.t) for i, row in enumerate(table.rows)]
    if process.noise_end != table.rows[0].t:
        moments.insert(0, (0, process.noise_end))
    near_data = NEAR_DATA_INDEX
    if isinstance(process, FlowProcess):
        near_data = process.at_depth(max(NEAR_DATA_DEPTH, process.margin))
    return [*moments, (len(table.rows) - 1, near_data)]


def single_calls(
    states: list[Array], moments: list[tuple[int, float]], classes: Classes | None, batches: tuple[int, ...]
) -> Iterator[dict[str, Array]]:
    """Inputs of the network: x (N, C, H, W) float32, t () float32 and, where there are classes, y (N,) int64."""
    for turn, (row, t) in enumerate(moments):
        for size in batches:
            inputs = {"x": states[row][:size], "t": np.array(t, np.float32)}
            yield inputs if classes is None else inputs | {"y": _labels(classes, size, turn)}


def _labels(classes: Classes, size: int, turn: int) -> NDArray[np.int64]:
    """Different labels, the first, the last and the null label among them, each in its turn the first of its batch."""
    known = {0, classes.count // 2, classes.count - 1}
    if classes.null_label is not None:
        known.add(classes.null_label)
    return np.resize(np.roll(np.array(sorted(known), np.int64), -turn), size)


def _tensor(array: Array | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


@torch.no_grad()
def _decoded(decoder: ImageDecoder, states: Array) -> dict[str, Array]:
    """Latents as a sampler leaves them, and their images."""
    z = states[: 2 if max(decoder.shape) <= SMALL_SIDE else 1]
    return {"decoder.z": z, "decoder.image": decoder.network(torch.from_numpy(z)).numpy()}
