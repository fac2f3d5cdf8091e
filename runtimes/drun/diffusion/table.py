"""Step tables. Every update of a sampler is linear, so a table with one row per network call is the whole sampler.

A sampler file yields `Step`s, written for an estimate h: the clean image x0, or the velocity. `assemble` turns them
into `Row`s for a network with a given prediction:

    h = p x + q m                                   m: guided network output at model time t
    h = clip(h)                                     only if the table clips
    x = a x + b h + sum_k d[k] h_prev[k] + c z      z ~ N(0, I), drawn only where there is noise

With a learned variance, c is an array: exp((f log_max + (1 - f) log_min) / 2), f = (v + 1) / 2, where v are the
network's further channels (Nichol & Dhariwal 2021, eq. 15).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.prediction import LEARNED_RANGE, conversion
from drun.diffusion.process import Process
from drun.errors import ConfigError

#: (log_min, log_max), the bounds of a learned variance
LogVariance = tuple[float, float]
#: The bounds of a row without a learned variance, in arrays of bounds.
NOT_LEARNED: LogVariance = (math.nan, math.nan)


@dataclass(frozen=True)
class Step:
    """x <- a x + b h + sum_k d[k] h_prev[k] + c z, with h estimated at time t from x.

    h is the clean image, or the velocity if `estimate` says so. At the data x is the clean image, whatever the network
    says, and only its velocity tells a slope there.
    """

    t: float
    a: float
    b: float
    c: float = 0.0
    d: tuple[float, ...] = ()
    log_variance: LogVariance | None = None  # instead of c
    step_t: float | None = None  # the time at which the sampler's step began, if the step takes several calls; None: t
    estimate: str = "x0"  # or velocity


@dataclass(frozen=True)
class Row:
    """One network call; all numbers are Python floats, which keep float32 arrays float32."""

    t: float
    p: float
    q: float
    a: float
    b: float
    c: float = 0.0
    d: tuple[float, ...] = ()  # weights of the h of the previous rows, newest first
    log_variance: LogVariance | None = None
    step_t: float | None = None
    w: float = 1.0  # guidance weight; 1 means one conditional call

    @property
    def noisy(self) -> bool:
        """Whether the loop draws a z for this row."""
        return self.c != 0 or self.log_variance is not None


@dataclass(frozen=True)
class Clip:
    """Bound the clean image to [-1, 1].

    With `dynamic_quantile` > 0 the bound of each image is that quantile of |x0|, at least 1, and the result is
    divided by it (Saharia et al. 2022, section 2.3).
    """

    dynamic_quantile: float = 0.0


@dataclass(frozen=True)
class TableColumns:
    """The rows of a table as arrays, for a device that looks its coefficients up by the number of the row.

    All are float64, but for `noisy`; a device casts them to what it computes in. R rows, H earlier estimates.
    """

    t: NDArray[np.float64]  # (R,) model time
    p: NDArray[np.float64]  # (R,) and so on: the factors of the update at the top of this file
    q: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]  # 0 where no noise is drawn, and where the variance is learned
    d: NDArray[np.float64]  # (R, H), newest first, 0 where a row has fewer: so the history must begin as finite numbers
    w: NDArray[np.float64]  # (R,) guidance weight; 1 is one conditional call
    log_variance: NDArray[np.float64]  # (R, 2) the lower and the upper bound; NaN where the variance is not learned
    noisy: NDArray[np.bool_]  # (R,) whether a z is drawn; the rows share one stream, in order


@dataclass(frozen=True)
class StepTable:
    """The table of a sampler for one network; `clip` holds for all rows."""

    rows: tuple[Row, ...]
    clip: Clip | None = None

    @property
    def num_noises(self) -> int:
        """How many z the loop draws."""
        return sum(row.noisy for row in self.rows)

    @property
    def history(self) -> int:
        """How many earlier h the loop keeps."""
        return max(len(row.d) for row in self.rows)

    def columns(self) -> TableColumns:
        """The same rows as arrays, without the beginnings of steps (`step_t`), which only guidance needs."""

        def column(name: str) -> NDArray[np.float64]:
            return np.array([getattr(row, name) for row in self.rows], np.float64)

        d = np.zeros((len(self.rows), self.history))
        for weights, row in zip(d, self.rows, strict=True):
            weights[: len(row.d)] = row.d
        return TableColumns(
            **{name: column(name) for name in "tpqabcw"},
            d=d,
            log_variance=np.array([row.log_variance or NOT_LEARNED for row in self.rows], np.float64),
            noisy=np.array([row.noisy for row in self.rows], np.bool_),
        )


def assemble(
    process: Process, prediction: str, steps: Sequence[Step], clip: Clip | None = None, variance: str | None = None
) -> StepTable:
    """The table that carries out `steps` with a network of the given prediction.

    Without clipping and history, x0 is eliminated (h = m): at high noise x0 = x/alpha - ... is a difference of
    large numbers, and the update should not pass through it in float32.

    Raises:
        ConfigError: the steps need a learned variance, and the network has none; a step that is written for the
            velocity is to be clipped; or a coefficient is not finite.
    """
    if variance != LEARNED_RANGE and any(step.log_variance for step in steps):
        raise ConfigError(
            f"variance got {LEARNED_RANGE}, but this network predicts no variance: choose fixed_small or fixed_large"
        )
    if clip is not None and any(step.estimate == "velocity" for step in steps):
        raise ConfigError("a step that follows the velocity cannot be clipped: set clip_x0=false or last_step=euler")
    rows = []
    eliminate = clip is None and not any(step.d for step in steps)
    for step in steps:
        p, q = conversion(prediction, step.estimate, process, step.t)
        a, b = step.a, step.b
        if eliminate:
            a, b, p, q = a + b * p, b * q, 0.0, 1.0
        rows.append(Row(step.t, p, q, a, b, step.c, step.d, step.log_variance, step.step_t))
        if not all(map(math.isfinite, (step.t, p, q, a, b, step.c, *step.d, *(step.log_variance or ())))):
            raise ConfigError(f"the step at time {step.t:g} has no finite coefficients: choose other options or steps")
    return StepTable(tuple(rows), clip)
