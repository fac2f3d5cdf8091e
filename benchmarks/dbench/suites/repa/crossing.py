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
    """The steps of both runs to `target`; `ratio` is plain steps / REPA steps."""

    ratio: float
    reached: bool  # whether REPA came to the plain model's final distance
    target: float  # that distance; if not reached, REPA's final one
    plain_steps: float
    repa_steps: float


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


def speedup(plain: Curve, repa: Curve) -> Speedup:
    """How many times fewer steps REPA needs to the plain model's final distance.

    Both runs' steps follow the one rule of `steps_to`: where the plain run was as good before its end, its earlier
    step counts, or a last checkpoint that came out badly would pass for a gain. Where REPA never gets there, the
    question is turned round: the steps of the plain run to REPA's final distance over the whole length of REPA's run,
    which is below 1.
    """
    repa_steps = steps_to(repa, plain.final)
    reached = repa_steps is not None
    target = plain.final if reached else repa.final
    plain_steps = steps_to(plain, target)
    assert plain_steps is not None, "a run reaches its own final distance, and one that is larger"
    needed = float(repa.steps[-1]) if repa_steps is None else repa_steps
    return Speedup(plain_steps / needed, reached, target, plain_steps, needed)


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median at each step, of runs with the same steps."""
    distances = np.median([curve.distances for curve in curves], axis=0)
    return Curve(curves[0].steps, tuple(distances.tolist()))


def final_ratios(plain: Sequence[Curve], repa: Sequence[Curve]) -> Spread:
    """Plain / REPA final distance, run by run: above 1 REPA ends nearer."""
    return timing.spread([one.final / other.final for one, other in zip(plain, repa, strict=True)])
