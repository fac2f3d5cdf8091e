"""Heun's second-order method on the probability-flow ODE: two network calls a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from drun.diffusion.grids import even_times, times
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.process.ode import OdePoint
from drun.diffusion.samplers.euler import euler_step
from drun.diffusion.table import Step
from drun.errors import ConfigError

CLIP_X0 = False

LAST_STEPS = ("auto", "euler", "heun")
#: Of a flow: those from which SiT's last step starts.
EVEN = ("auto", "trailing")


def steps(process: Process, num_steps: int, *, grid: str = "auto", last_step: str = "auto") -> list[Step]:
    """2 num_steps - 1 network calls with an Euler step at the end, 2 num_steps with a Heun step there.

    Args:
        last_step: `euler`: from the last time to the data without correction (Karras et al. 2022, algorithm 1; REPA:
            Yu et al. 2025). `heun`: corrected as all others, for flows at even times, as SiT samples (Ma et al. 2024):
            to the data, or as near to them as the process's margin; SiT counts the times, of which there are
            num_steps + 1. `auto`: `heun` for a flow in SiT's convention, whose time 0 is noise, else `euler`.

    Raises:
        ConfigError: an unknown choice or grid, or a last step that the process or the grid does not have.
    """
    if not _corrects_last(process, grid, last_step):
        visited = times(process, num_steps, grid, usual="karras")
        last = visited[-1]
        return [*_pairs(process, visited), euler_step(process, last, process.ode(last), process.ode_end())]
    assert isinstance(process, FlowProcess)
    *visited, end = even_times(process, num_steps, process.margin)
    return [*_pairs(process, visited), *_by_velocity(visited[-1], end)]


def _corrects_last(process: Process, grid: str, last_step: str) -> bool:
    if last_step not in LAST_STEPS:
        raise ConfigError(f"last_step got '{last_step}', expected one of {', '.join(LAST_STEPS)}")
    possible = isinstance(process, FlowProcess) and grid in EVEN
    if last_step == "heun" and not possible:
        raise ConfigError(
            f"last_step=heun needs a flow at even times, got a {process.to_dict()['kind']} process and grid '{grid}': "
            "set last_step=euler"
        )
    sits = isinstance(process, FlowProcess) and process.noise_time == 0
    return last_step == "heun" or (last_step == "auto" and possible and sits)


def _pairs(process: Process, visited: Sequence[float]) -> list[Step]:
    """A predictor and a corrector from each time to the next."""
    table = []
    points = [process.ode(t) for t in visited]
    for (t, here), (following, there) in pairwise(zip(visited, points, strict=True)):
        predictor = euler_step(process, t, here, there)
        table += [predictor, _corrector(process, t, following, here, there, predictor)]
    return table


def _by_velocity(t: float, end: float) -> list[Step]:
    """The same for a flow, written for the velocity v: x += reach v_1, then x += reach/2 (v_2 - v_1).

    At the data, where sigma = 0, x0 tells no slope; and a predictor that ends there forgets the x it came from.
    """
    reach = end - t
    predictor = Step(t, a=1.0, b=reach, estimate="velocity")
    return [predictor, Step(end, a=1.0, b=reach / 2, d=(-reach / 2,), step_t=t, estimate="velocity")]


def _corrector(process: Process, t: float, following: float, here: OdePoint, there: OdePoint, predictor: Step) -> Step:
    """Replace the slope at t by the mean of the slopes at t and at `following`.

    x += reach/2 (slope_2 - slope_1), each slope of_x0 x0 + of_noise eps. The x that slope_1 was computed from is
    gone, but the predictor tells it: (x - b x0_1) / a.
    """
    half = there.scale * (there.clock - here.clock) / 2
    first, second = here.of_noise / float(process.sigma(t)), there.of_noise / float(process.sigma(following))
    old_x = first / predictor.a
    old_x0 = here.of_x0 - first * float(process.alpha(t)) - old_x * predictor.b
    return Step(
        following,
        a=1 + half * (second - old_x),
        b=half * (there.of_x0 - second * float(process.alpha(following))),
        d=(-half * old_x0,),
        step_t=t,
    )
