"""Computes how many times fewer steps one run needs than another to the same Fréchet distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dbench.core import timing
from dbench.core.timing import Spread


@dataclass(frozen=True)
class Curve:
    """Fréchet distances of one run's checkpoints."""

    steps: tuple[int, ...]  # rising, above 0
    distances: tuple[float, ...]  # as many, above 0

    @property
    def final(self) -> float:
        return self.distances[-1]


@dataclass(frozen=True)
class Speedup:
    """The steps of both runs to `target`; `ratio` is plain steps / aligned steps."""

    ratio: float
    reached: bool  # whether the aligned run came to the plain one's distance
    target: float  # that distance; if not reached, the aligned run's last one
    plain_steps: float
    aligned_steps: float


def steps_to(curve: Curve, target: float) -> float | None:
    """The step at which a run first reaches a distance; None if it never does.

    The curve is the running minimum over the checkpoints, straight in step and log distance between them. Distances
    of finite samples scatter from checkpoint to checkpoint, so the raw curve may cross a level several times; its
    running minimum crosses once, says when a checkpoint this good was first at hand, and moves no measured point, as
    a fitted monotone curve would. A distance that the first checkpoint has is dated to it, for nothing is known of
    before.
    """
    lowest = np.minimum.accumulate(curve.distances)
    reached = np.flatnonzero(lowest <= target)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(curve.steps[0])
    before, after = math.log(lowest[i - 1]), math.log(lowest[i])
    # The logarithms of two distances that differ in the last digit may be equal.
    share = (before - math.log(target)) / (before - after) if after < before else 1.0
    return curve.steps[i - 1] + share * (curve.steps[i] - curve.steps[i - 1])


def speedup(plain: Curve, aligned: Curve, at: int) -> Speedup:
    """How many times fewer steps an aligned run needs to the distance that the plain one has at step `at`.

    Both runs' steps follow the one rule of `steps_to`: where the plain run was as good before, its earlier step counts,
    or a checkpoint that came out badly would pass for a gain. Where the aligned run never gets there, the question is
    turned round: the steps of the plain run to the aligned one's last distance over the whole length of that run.
    """
    wanted = dict(zip(plain.steps, plain.distances, strict=True))[at]
    aligned_steps = steps_to(aligned, wanted)
    reached = aligned_steps is not None
    target = wanted if reached else aligned.final
    plain_steps = steps_to(plain, target)
    assert plain_steps is not None, "a run reaches its own distance, and one that is larger"
    needed = float(aligned.steps[-1]) if aligned_steps is None else aligned_steps
    return Speedup(plain_steps / needed, reached, target, plain_steps, needed)


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median at each step, of runs with the same steps."""
    distances = np.median([curve.distances for curve in curves], axis=0)
    return Curve(curves[0].steps, tuple(distances.tolist()))


def final_ratios(plain: Sequence[Curve], aligned: Sequence[Curve]) -> Spread:
    """Plain / aligned final distance, run by run: above 1 the aligned one ends nearer."""
    return timing.spread([one.final / other.final for one, other in zip(plain, aligned, strict=True)])
