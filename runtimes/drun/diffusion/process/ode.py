"""The probability-flow ODE of a process, in the variable and on the clock in which solvers step through it."""

from __future__ import annotations

import math
from typing import NamedTuple


class OdePoint(NamedTuple):
    """Model time t as a solver sees it: the state is u = x / scale, and du/dclock = of_x x + of_h h.

    h is what the network says about x at time t: the clean image, or the velocity (`estimate`, as of a table's `Step`).
    At the data the clean image is x itself and tells no slope: there the slope, and the time if there is none, are NaN.
    """

    t: float
    scale: float
    clock: float
    of_x: float = math.nan
    of_h: float = math.nan
    estimate: str = "x0"

    @property
    def has_slope(self) -> bool:
        return not math.isnan(self.of_x)

    def reach(self, there: OdePoint) -> float:
        """The factor by which a slope moves x: the difference on the clock, times the scale there."""
        return there.scale * (there.clock - self.clock)


def slope(alpha: float, sigma: float, of_x0: float, of_noise: float) -> tuple[float, float]:
    """(of_x, of_h) of of_x0 x_0 + of_noise eps, for h = x_0 and eps = (x - alpha x_0) / sigma; sigma > 0."""
    of_x = of_noise / sigma
    return of_x, of_x0 - of_x * alpha
