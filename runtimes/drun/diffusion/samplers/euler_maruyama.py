"""Euler-Maruyama on the reverse SDE of a flow (SiT: Ma et al. 2024; REPA: Yu et al. 2025): one call a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from itertools import pairwise

import numpy as np

from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import Step
from drun.errors import ConfigError

CLIP_X0 = False

#: form -> the diffusion form of its paper
FORMS = {"repa": "linear", "sit": "sigma"}
LAST_STEPS = ("mean", "tweedie", "euler", "none")
#: `sbdm` is infinite where alpha = 0: a flow without a margin starts at this distance in depth.
SBDM_MARGIN = 1e-3


def _sbdm(process: FlowProcess, t: float) -> float:
    """Half the squared diffusion of the forward SDE: sigma sigma' - sigma^2 alpha'/alpha, by the depth."""
    alpha_slope, sigma_slope = process.slope_by_depth(t)
    alpha, sigma = process.alpha(t), process.sigma(t)
    return float(sigma * sigma_slope - sigma**2 * alpha_slope / alpha)


#: diffusion form -> (process, t) -> w in dx = (velocity + w score) dt + sqrt(2 w) dB
DIFFUSIONS: dict[str, Callable[[FlowProcess, float], float]] = {
    "constant":              lambda process, t: 1.0,
    "sbdm":                  _sbdm,
    "sigma":                 lambda process, t: float(process.sigma(t)),
    "linear":                lambda process, t: float(process.depth(t)),
    "decreasing":            lambda process, t: 0.25 * (1 - math.cos(math.pi * float(process.depth(t)))) ** 2,
    "increasing_decreasing": lambda process, t: math.sin(math.pi * float(process.depth(t))) ** 2,
}  # fmt: skip


def steps(
    process: Process,
    num_steps: int,
    *,
    form: str = "repa",
    diffusion_form: str = "auto",
    last_step: str = "mean",
    last_step_size: float = 0.04,
) -> list[Step]:
    """num_steps network calls: even steps down to `last_step_size`, and from there one step without noise.

    Args:
        form: `repa` (w = the depth in noise: its "diffusion 2t" on every path) or `sit` (w = sigma).
        diffusion_form: another w: `constant`, `sbdm`, `sigma`, `linear`, `decreasing` or `increasing_decreasing`, as
            SiT names them. `auto`: that of `form`.
        last_step: `mean` (the drift with the score), `tweedie` (the estimate of the data), `euler` (the velocity
            alone), or `none`: even noisy steps to the data.
        last_step_size: depth from which the last step starts, 0..1.

    Raises:
        ConfigError: a discrete process, or a wrong option.
    """
    if not isinstance(process, FlowProcess):
        raise ConfigError("euler_maruyama integrates the SDE of a flow, this model has discrete timesteps: use ddpm")
    own = FORMS[_choice("form", form, FORMS)]
    name = _choice("diffusion_form", own if diffusion_form == "auto" else diffusion_form, DIFFUSIONS)
    _choice("last_step", last_step, LAST_STEPS)
    start = process.deepest
    if start == 1 and name == "sbdm" and process.ends_in_noise:
        start -= SBDM_MARGIN
    depths = _depths(num_steps, start, 0.0 if last_step == "none" else last_step_size)
    table = []
    for i, (depth, following) in enumerate(pairwise(depths)):
        t, size = process.at_depth(depth), depth - following
        w = DIFFUSIONS[name](process, t)
        if i < num_steps - 1 or last_step == "none":
            table.append(_step(process, t, size, w, c=math.sqrt(2 * w * size)))
        elif last_step == "tweedie":
            table.append(Step(t, a=0.0, b=1.0))
        else:
            table.append(_step(process, t, size, w if last_step == "mean" else 0.0, c=0.0))
    return table


def _depths(num_steps: int, start: float, last_step_size: float) -> list[float]:
    """num_steps + 1 depths from the noise to the data."""
    if num_steps < 1:
        raise ConfigError(f"cannot sample in {num_steps} steps: choose at least 1")
    if last_step_size == 0:
        return [float(depth) for depth in np.linspace(start, 0, num_steps + 1)]
    if not 0 < last_step_size < start:
        raise ConfigError(f"last_step_size got {last_step_size}, expected above 0 and below {start:g}")
    return [*(float(depth) for depth in np.linspace(start, last_step_size, num_steps)), 0.0]


def _step(process: FlowProcess, t: float, size: float, w: float, c: float) -> Step:
    """x -= size (dx/ddepth + w eps/sigma), for the score is -eps/sigma; plus c z."""
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    of_x0, of_noise = (float(of) for of in process.slope_by_depth(t))
    of_noise += w / sigma
    return Step(
        t,
        a=1 - size * of_noise / sigma,
        b=-size * (of_x0 - of_noise * alpha / sigma),
        c=c,
    )


def _choice(key: str, value: str, choices: Collection[str]) -> str:
    if value not in choices:
        raise ConfigError(f"{key} got '{value}', expected one of {', '.join(choices)}")
    return value
