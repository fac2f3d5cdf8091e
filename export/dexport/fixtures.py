"""The golden file: what eager float32 PyTorch computes, carried in the bundle so that any machine can check it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dexport.latents import ImageDecoder
from dexport.proof import SHORT_BATCH, Proof
from drun.bundle.card import Card, Classes
from drun.console import Report
from drun.diffusion import samplers
from drun.diffusion.loop import Observer
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import StepTable
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain.eager import EagerNetwork
from dtrain.published import Denoiser

SEED = 20
#: Guidance weight of the long trajectory.
CFG = 1.5
#: A single call close to the data: time index, and depth in the noise of a flow.
NEAR_DATA_INDEX, NEAR_DATA_DEPTH = 1.0, 0.02
#: Of larger images the golden file keeps only one, because it travels with the bundle.
SMALL_SIDE = 128

Array = NDArray[Any]


@dataclass(frozen=True)
class Trajectory:
    """A trajectory of the samples `indices` on the noise that runtimes use."""

    sampling: Sampling
    indices: range

    def spec(self) -> dict[str, Any]:
        return {"settings": asdict(self.sampling.settings), "indices": list(self.indices)}


class ReferenceNetwork(EagerNetwork):
    """The trained network, which reports its calls. num_calls: how many calls there will be."""

    def __init__(self, network: nn.Module, report: Report) -> None:
        super().__init__(network)
        self.report, self.num_calls, self.done = report, 0, 0

    def predict(self, x: Tensor, t: float, labels: Tensor | None) -> Tensor:
        output = super().predict(x, t, labels)
        self.done += 1
        self.report("computing the reference in eager PyTorch", self.done, self.num_calls)
        return output

    def call(self, inputs: Mapping[str, Array]) -> Array:
        """One of `single_calls` -> its output, (N, C or 2 C, H, W) float32."""
        labels = inputs.get("y")
        tensors = self.put(inputs["x"]), float(inputs["t"]), None if labels is None else self.put(labels)
        return self.predict(*tensors).numpy()


def write_golden(
    path: Path, denoiser: Denoiser, proof: Proof, report: Report, decoder: ImageDecoder | None = None
) -> None:
    """Write inputs and eager outputs: single calls, same-noise trajectories and, of a latent model, decoded images.

    Raises:
        ConfigError: the sampler cannot make `proof.num_steps` steps of the process. NotFiniteError: the network draws
        numbers that are not finite.
    """
    network, card = ReferenceNetwork(denoiser.network, report), denoiser.card
    runs = trajectories(card, network, proof)
    moments = call_moments(card.process, runs[0].sampling.table)
    network.num_calls = sum(len(run.sampling.table.rows) for run in runs) + len(moments) * len(proof.batches)
    short, states = _drawn_with_states(runs[0])
    finals = [short, *(run.sampling.draw(run.indices) for run in runs[1:])]
    arrays: dict[str, Array] = {f"trajectory{i}.out": final for i, final in enumerate(finals)}
    for i, call in enumerate(single_calls(states, moments, card.classes, proof.batches)):
        arrays |= {f"call{i}.{key}": value for key, value in (call | {"out": network.call(call)}).items()}
    if decoder is not None:
        arrays |= _decoded(decoder, finals[0])
    spec = {
        "calls": [t for _, t in moments for _ in proof.batches],
        "trajectories": [run.spec() for run in runs],
        "decoded": len(arrays.get("decoder.z", ())),
    }
    with path.open("wb") as file:
        np.savez(file, spec=np.array(json.dumps(spec)), allow_pickle=False, **arrays)


def trajectories(card: Card, network: EagerNetwork, proof: Proof) -> list[Trajectory]:
    """A short trajectory of a batch, and one of the bundle's own sampler; both guided, if the network can be."""
    # Not from T - 1 on: there a cosine schedule's x0 is a difference of numbers 10^4 times larger.
    grid = "auto" if isinstance(card.process, FlowProcess) else "leading"
    options = {"grid": grid, "clip_x0": card.data.latent is None}
    short = SamplingSettings("ddim", options, proof.num_states, SEED)
    runs = [Trajectory(_sampling(card, network, short), range(SHORT_BATCH))]
    if proof.num_steps:
        cfg = CFG if card.can_guide else 1.0
        long = SamplingSettings(card.sampler.name, card.sampler.options, proof.num_steps, SEED, cfg=cfg)
        runs.append(Trajectory(_sampling(card, network, long), range(1)))
    return runs


def _sampling(card: Card, network: EagerNetwork, settings: SamplingSettings) -> Sampling:
    # All options are stored, so that a version with other defaults replays the same.
    options = samplers.resolve(settings.sampler, settings.options)
    return Sampling(card, network, replace(settings, options=options))


def _drawn_with_states(run: Trajectory) -> tuple[Array, list[Array]]:
    """The final states, and those before each row; (N, C, H, W) each."""
    states: list[Array] = []
    before = range(-1, len(run.sampling.table.rows) - 1)
    final = run.sampling.draw(run.indices, Observer(rows=before, show=lambda row, x: states.append(x.copy())))
    return final, states


def call_moments(process: Process, table: StepTable) -> list[tuple[int, float]]:
    """The moments of the single calls: a row of the table and a time; both ends of time are included."""
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
    """Different labels, with the first, the last and the null label; each of them is the first of a batch in turn."""
    known = {0, classes.count // 2, classes.count - 1}
    if classes.null_label is not None:
        known.add(classes.null_label)
    return np.resize(np.roll(np.array(sorted(known), np.int64), -turn), size)


@torch.no_grad()
def _decoded(decoder: ImageDecoder, states: Array) -> dict[str, Array]:
    """Latents at the end of a sampler, and their images."""
    z = states[: 2 if max(decoder.shape) <= SMALL_SIDE else 1]
    return {"decoder.z": z, "decoder.image": decoder.network(torch.from_numpy(z)).numpy()}
