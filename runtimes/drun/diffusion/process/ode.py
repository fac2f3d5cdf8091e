"""The probability-flow ODE of a process, in the variable in which solvers step through it."""

from __future__ import annotations

from typing import NamedTuple


class OdePoint(NamedTuple):
    """Time t as a solver sees it: u = x / scale moves by du = (of_x0 x_0 + of_noise eps) dclock."""

    scale: float
    clock: float
    of_x0: float = 0.0
    of_noise: float = 0.0
