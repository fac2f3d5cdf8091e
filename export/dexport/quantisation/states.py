"""Inputs of real sampling, over all times and labels: the ranges of activations are measured on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drun.bundle.card import Card, Classes
from drun.console import Report
from drun.diffusion.loop import Observer
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import StepTable
from drun.run.opening import Opened
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import SamplingSettings

#: The inputs that ranges are measured on. 1,000 are hardly better; 32 cost 3 dB.
NUM_STATES = 300
#: Steps of each trajectory, where the model has as many timesteps.
NUM_STEPS = 50
#: Not the golden file's seed, because a proof on the states that ranges were measured on would prove less.
SEED = 21
#: The shares of the process that stay in float32; see `fp32_times`.
NOISE_END, NOISE_END_OF_NOISE, DATA_END = 0.01, 0.25, 0.02
#: Guidance weight of the trajectories, where the model can be guided.
CFG = 1.5

#: The arrays of one call, in the order of the artifact's `io`: x (N, C, H, W), t (N,) and, if there are classes, y (N,)
Inputs = tuple[NDArray[np.float32] | NDArray[np.int64], ...]


def settings_of(card: Card, seed: int, cfg: float = 1.0) -> SamplingSettings:
    """The bundle's own sampler, over all its times."""
    name, options = resolve_sampler(card, None, {})
    return SamplingSettings(name, options, card.process.most_steps(NUM_STEPS), seed, cfg=cfg)


def fp32_times(card: Card) -> list[list[float]]:
    """The intervals of time that stay in float32, as `drun.backends.openvino.ends` reads them.

    In the first steps an error grows most on its way to the image: one step in float32 is worth up to 7 dB. A network
    that predicts the noise has two longer ends. Near the noise its error of x0 = (x - sigma noise)/alpha is magnified
    by sigma/alpha: with the short end 13 of 100 images of the digits' U-Net were farther than 40 dB from float32's, and
    2 with the longer one. Near the data the noise is (x - alpha x0)/sigma, so that the error of x is magnified by
    1/sigma, which images do not show.
    """
    if card.prediction in ("noise", "score"):
        depths = [(1 - NOISE_END_OF_NOISE, 1.0), (0.0, DATA_END)]
    else:
        depths = [(1 - NOISE_END, 1.0)]
    return [sorted(_time(card.process, depth) for depth in ends) for ends in depths]


def _time(process: Process, depth: float) -> float:
    """The time at a share of the way from data to noise."""
    if isinstance(process, DiscreteProcess):
        return min(round(depth * process.num_timesteps, 6), process.noise_end)
    return process.at_depth(depth)


def calibration_inputs(card: Card, network: Opened, batch: int, report: Report) -> list[Inputs]:
    """Inputs of trajectories of the bundle's own sampler, which are guided if the network can be, in batches.

    Their times are those of the sampler's calls that int8 computes, each as often as any other. Their labels are all
    classes in turn and, half of them, the label for no class: not the trajectories' own, which are too few for all
    classes.

    Raises:
        NotFiniteError: the network draws numbers that are not finite.
    """
    sampling = Sampling(card, network, settings_of(card, SEED, CFG if card.can_guide else 1.0))
    table = sampling.table
    rows = _quantised_rows(card, table)
    states = _states(sampling, range(math.ceil(NUM_STATES / len(rows))), network.largest_batch(table), report)
    x, t = _joined(states, table, rows)
    return _in_batches((x, t) if card.classes is None else (x, t, _labels(card.classes, len(x))), batch)


def _states(sampling: Sampling, indices: range, largest: int, report: Report) -> list[list[NDArray[np.float32]]]:
    """The states before each row: for each part of the samples a list of (N, C, H, W)."""
    num_rows = len(sampling.table.rows)
    parts = [indices[start : start + largest] for start in range(0, len(indices), largest)]
    found: list[list[NDArray[np.float32]]] = []
    for number, part in enumerate(parts):
        states: list[NDArray[np.float32]] = []
        sampling.draw(part, _collector(states, num_rows, report, number * num_rows, len(parts) * num_rows))
        found.append(states)
    return found


def _collector(
    states: list[NDArray[np.float32]], num_rows: int, report: Report, done_before: int, total: int
) -> Observer:
    return Observer(
        progress=lambda done: report("drawing states to calibrate on", done_before + done, total),
        rows=range(-1, num_rows - 1),
        show=lambda row, x: states.append(np.array(x, np.float32)),
    )


def _quantised_rows(card: Card, table: StepTable) -> list[int]:
    """The rows of a table that are computed in int8; all, if none is."""
    ends = fp32_times(card)
    times = [float(np.float32(row.t)) for row in table.rows]
    found = [place for place, t in enumerate(times) if not any(low <= t <= high for low, high in ends)]
    return found or [*range(len(times))]


def _joined(
    parts: Sequence[list[NDArray[np.float32]]], table: StepTable, rows: Sequence[int]
) -> tuple[NDArray[np.float32], ...]:
    """x (N, C, H, W) and t (N,), some rows of the table one after the other."""
    found = [np.concatenate([states[place] for states in parts]) for place in rows]
    times = [np.full(len(x), table.rows[place].t, np.float32) for x, place in zip(found, rows, strict=True)]
    return np.concatenate(found), np.concatenate(times)


def _labels(classes: Classes, count: int) -> NDArray[np.int64]:
    """The classes in turn; every second label is that for no class, as in a guided call, where there is one.

    Where there are more classes than inputs, some of them, evenly spread; neighbours in time are not neighbours there.
    """
    if classes.null_label is not None:
        labels = np.full(count, classes.null_label, np.int64)
        labels[::2] = _in_turn(classes.count, -(-count // 2))
        return labels
    return _in_turn(classes.count, count)


def _in_turn(num_classes: int, count: int) -> NDArray[np.int64]:
    if num_classes <= count:
        return np.resize(np.arange(num_classes), count)
    spread = np.linspace(0, num_classes - 1, count).round().astype(np.int64)
    return np.random.default_rng(SEED).permutation(spread)


def _in_batches(arrays: tuple[NDArray[np.float32] | NDArray[np.int64], ...], size: int) -> list[Inputs]:
    """Batches of `size`, the last of which is filled up with the first inputs."""
    count = math.ceil(len(arrays[0]) / size)
    places = np.resize(np.arange(len(arrays[0])), (count, size))
    return [tuple(np.ascontiguousarray(array[some]) for array in arrays) for some in places]
