"""Classifier-free guidance (Ho & Salimans 2022). No other file contains its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic

from drun.diffusion.arrays import Array, empty
from drun.diffusion.table import Row, StepTable
from drun.errors import ConfigError

#: A grid's time may miss the end of an interval by rounding: 0.7 of 250 even steps is 0.7000000000000001.
ROUNDING = 1e-9
#: (x, model time, labels or None) -> network output
Predict = Callable[[Array, float, Array | None], Array]


def with_guidance(table: StepTable, weight: float, interval: tuple[float, float] | None = None) -> StepTable:
    """Put `weight` on the rows whose time lies in the closed interval (Kynkäänniemi et al. 2024); all if None.

    Times are the model's own. All calls of one step are guided like the first call of the step.

    Raises:
        ConfigError: an interval whose ends are in the wrong order.
    """
    low, high = interval or (float("-inf"), float("inf"))
    if low > high:
        raise ConfigError(f"the guidance interval {low:g},{high:g} is empty: write the smaller time first")
    rows = [replace(row, w=weight if low - ROUNDING <= _step_t(row) <= high + ROUNDING else 1.0) for row in table.rows]
    return replace(table, rows=tuple(rows))


def _step_t(row: Row) -> float:
    return row.t if row.step_t is None else row.step_t


@dataclass(frozen=True)
class Guidance:
    """How a network is guided in the rows that ask for it."""

    null_label: int = 0  # the label that stands for "no class"
    channels: int | None = None  # how many leading channels are guided; None: all of x


class Guided(Generic[Array]):
    """m = m_u + w (m_c - m_u) on the first `channels` channels; one undoubled call where w = 1.

    Args:
        predict: the network.
        labels: (N,) int64, or None for an unconditional network.
        guidance: channels that are not guided, and a learned variance, stay conditional.
    """

    def __init__(self, predict: Predict[Array], labels: Array | None = None, guidance: Guidance = Guidance()) -> None:
        self.predict: Predict[Array] = predict
        self.labels: Array | None = labels
        self.channels = guidance.channels
        self.twice: Array | None = None
        if labels is not None:
            self.both_labels: Array = empty((2 * len(labels),), like=labels)
            self.both_labels[: len(labels)] = labels
            self.both_labels[len(labels) :] = guidance.null_label

    def __call__(self, x: Array, t: float, w: float) -> Array:
        """x: (N, C, H, W) -> guided output, (N, C or 2 C, H, W); may be overwritten by the next call."""
        if w == 1 or self.labels is None:
            return self.predict(x, t, self.labels)
        n = len(x)
        if self.twice is None:
            self.twice = empty((2 * n, *x.shape[1:]), like=x)
        self.twice[:n], self.twice[n:] = x, x
        both = self.predict(self.twice, t, self.both_labels)
        guided = self.channels or x.shape[1]
        conditional, unconditional = both[:n, :guided], both[n:, :guided]
        conditional -= unconditional
        conditional *= w
        conditional += unconditional
        return both[:n]
