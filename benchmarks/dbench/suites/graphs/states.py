"""Inputs that a network meets when it samples: to be compared with eager PyTorch, and to calibrate quantisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dbench.core.inputs import Inputs
from dbench.suites.graphs.source import EagerCall, Original
from dexport.fixtures import call_moments, single_calls, trajectories
from dexport.proof import Proof
from drun.console import Report
from drun.diffusion.loop import Observer
from drun.run.sampling import Sampling
from dtrain.eager import EagerNetwork
from dtrain.published import Denoiser

#: States of the trajectory whose calls are compared; both ends of time are added.
NUM_COMPARED = 3
#: Steps and samples of the trajectory that calibrates; its samples are not those that are compared.
NUM_CALIBRATING, CALIBRATING_SAMPLES = 12, range(100, 104)


def references(original: Original, report: Report) -> list[EagerCall]:
    """Calls like those of a golden file, in a batch of the measured size.

    They are at the states of a short trajectory and at both ends of time, with different labels.
    """
    denoiser, batch = original.denoiser, original.batch
    sampling = _short(denoiser, NUM_COMPARED)
    states = _states(sampling, range(batch))
    moments = call_moments(denoiser.card.process, sampling.table)
    calls = [_batched(call) for call in single_calls(states, moments, denoiser.card.classes, (batch,))]
    made = []
    for done, inputs in enumerate(calls, 1):
        made.append(EagerCall(inputs, _computed(denoiser.network, inputs)))
        report("computing the reference in eager PyTorch", done, len(calls))
    return made


@torch.no_grad()
def _computed(network: nn.Module, inputs: Inputs) -> NDArray[Any]:
    return np.asarray(network(*map(torch.from_numpy, inputs)))


def calibration(denoiser: Denoiser, report: Report) -> list[Inputs]:
    """The calls of a whole trajectory, one for each of its times."""
    report("walking for the calibration", 0, 1)
    sampling = _short(denoiser, NUM_CALIBRATING)
    states = _states(sampling, CALIBRATING_SAMPLES)
    moments = call_moments(denoiser.card.process, sampling.table)
    calls = single_calls(states, moments, denoiser.card.classes, (len(CALIBRATING_SAMPLES),))
    return [_batched(call) for call in calls]


def _short(denoiser: Denoiser, num_states: int) -> Sampling:
    """The short trajectory of a golden file, in `num_states` steps."""
    return trajectories(denoiser.card, EagerNetwork(denoiser.network), Proof(num_states, (1,), 0))[0].sampling


def _states(sampling: Sampling, samples: range) -> list[NDArray[Any]]:
    """The states before each row of the table, (N, C, H, W) each."""
    states: list[NDArray[Any]] = []
    before = range(-1, len(sampling.table.rows) - 1)
    sampling.draw(samples, Observer(rows=before, show=lambda row, x: states.append(x.copy())))
    return states


def _batched(call: dict[str, NDArray[Any]]) -> Inputs:
    """x (N, C, H, W) float32, t (N,) float32 and, where there are classes, y (N,) int64."""
    t = np.full(len(call["x"]), call["t"], np.float32)
    return (call["x"], t, call["y"]) if "y" in call else (call["x"], t)
