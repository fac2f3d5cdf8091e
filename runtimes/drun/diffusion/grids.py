"""The model times that samplers visit, from noise towards data: one per step, or the steps of an ODE solver."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TypeGuard

import numpy as np

from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.process.ode import OdePoint
from drun.errors import ConfigError

#: Above this noise-to-signal ratio an image is noise; a cosine schedule ends at 64,179.
KARRAS_SIGMA_MAX = 200.0
KARRAS_RHO = 7.0
#: The smallest ratio of Karras et al.'s grid. The ratio of a flow falls to 0, which has no place on their grid.
FLOW_SIGMA_MIN = 0.002
#: Whether an ODE solver that corrects its steps also corrects the last one.
LAST_STEPS = ("auto", "euler", "heun")
#: The grids of a flow whose last step may be corrected.
EVEN = ("auto", "trailing")


def times(process: Process, num_steps: int, grid: str, usual: str = "trailing") -> list[float]:
    """Model times from noise towards data.

    Args:
        num_steps: length of the result, 1..T for a discrete process.
        grid: `leading` (0, s, 2s, ... with s = T // num_steps), `linspace` (0 and T-1 included), `trailing`
            (T-1 included), `karras` (fractional times, rho = 7: Karras et al. 2022, eq. 5), `respaced`
            (OpenAI's "N"), OpenAI's section counts such as `10,15,25`, or OpenAI's `ddimN`. A flow has `trailing`
            (even, the noise end included) and `karras`. `auto`: `usual`, or `trailing` for a flow.
        usual: the sampler's usual grid for a discrete process.

    Raises:
        ConfigError: a count that the process or the grid cannot give, or an unknown grid.
    """
    if isinstance(process, FlowProcess):
        return _flow_times(process, num_steps, grid)
    return _discrete_times(process, num_steps, usual if grid == "auto" else grid)


def even_times(process: FlowProcess, num_steps: int, end: float = 0.0) -> list[float]:
    """num_steps + 1 model times at even depths in noise, from the deepest to `end`, both included.

    Raises:
        ConfigError: no steps.
    """
    if num_steps < 1:
        raise ConfigError(f"cannot sample in {num_steps} steps: choose at least 1")
    return [process.at_depth(float(depth)) for depth in np.linspace(process.deepest, end, num_steps + 1)]


def ode_steps(process: Process, num_steps: int, grid: str, last_step: str = "euler") -> list[tuple[OdePoint, OdePoint]]:
    """The num_steps steps of a solver of the probability-flow ODE: from each point of the grid to the next.

    Args:
        grid: as of `times`; `auto` is `karras` for a discrete process.
        last_step: `euler`: to the data, where there is no slope. `heun`, for flows at even times: to the data, or as
            near to them as the margin allows, where the network tells the slope by its velocity (SiT: Ma et al. 2024,
            which counts the times, of which there are num_steps + 1). `auto`: `heun` for a flow in SiT's convention of
            time, else `euler`.

    Raises:
        ConfigError: as `times`; an unknown last step, or one that the process or the grid does not have.
    """
    if not _corrects_last(process, grid, last_step):
        visited = times(process, num_steps, grid, usual="karras")
        return list(pairwise([*map(process.ode, visited), process.ode_end()]))
    *visited, end = even_times(process, num_steps, process.margin)
    return [*pairwise(map(process.ode, visited)), (process.ode_by_velocity(visited[-1]), process.ode_by_velocity(end))]


def _corrects_last(process: Process, grid: str, last_step: str) -> TypeGuard[FlowProcess]:
    if last_step not in LAST_STEPS:
        raise ConfigError(f"last_step got '{last_step}', expected one of {', '.join(LAST_STEPS)}")
    if isinstance(process, FlowProcess) and grid in EVEN:
        return last_step == "heun" or (last_step == "auto" and process.time_convention == "sit")
    if last_step == "heun":
        raise ConfigError(
            f"last_step=heun got a process of kind {process.to_dict()['kind']} and grid '{grid}', "
            "expected a flow at even times: set last_step=euler"
        )
    return False


def _flow_times(process: FlowProcess, num_steps: int, grid: str) -> list[float]:
    even = even_times(process, num_steps)
    if grid == "karras":
        return _karras(process, num_steps, FLOW_SIGMA_MIN)
    if grid not in EVEN:
        raise ConfigError(f"a flow has no grid '{grid}': choose trailing or karras")
    return even[:-1]


def _discrete_times(process: DiscreteProcess, num_steps: int, grid: str) -> list[float]:
    num_timesteps = process.num_timesteps
    if not 1 <= num_steps <= num_timesteps:
        raise ConfigError(
            f"cannot sample in {num_steps} steps: this model has {num_timesteps} timesteps, "
            f"choose from 1 to {num_timesteps}"
        )
    if grid == "karras":
        return _karras(process, num_steps, float(process.ratio(0)))
    if grid in _GRIDS:
        return [float(t) for t in _GRIDS[grid](num_timesteps, num_steps)][::-1]
    if grid.startswith("ddim"):
        return [float(t) for t in _ddim(num_timesteps, num_steps, grid)][::-1]
    if re.fullmatch(r"([0-9]{0,6},)*[0-9]{0,6}", grid):
        return [float(t) for t in _sections(num_timesteps, num_steps, grid)][::-1]
    raise ConfigError(
        f"unknown grid '{grid:.40}': choose one of {', '.join(_GRIDS)}, karras, ddimN, or section counts like 10,15,25"
    )


def _leading(num_timesteps: int, num_steps: int) -> list[int]:
    return [i * (num_timesteps // num_steps) for i in range(num_steps)]


def _linspace(num_timesteps: int, num_steps: int) -> list[int]:
    return [int(t) for t in np.linspace(0, num_timesteps - 1, num_steps).round()]


def _trailing(num_timesteps: int, num_steps: int) -> list[int]:
    return sorted(round(num_timesteps - i * num_timesteps / num_steps) - 1 for i in range(num_steps))


def respace(size: int, count: int) -> list[int]:
    """`count` of the indices 0..size-1, both ends included (Nichol & Dhariwal 2021, section 4).

    The stride is accumulated and rounded half to even, as in the published models' sampler.
    """
    stride = (size - 1) / (count - 1) if count > 1 else 1.0
    position, indices = 0.0, []
    for _ in range(count):
        indices.append(round(position))
        position += stride
    return indices


def _sections(num_timesteps: int, num_steps: int, grid: str) -> list[int]:
    """OpenAI's comma list: T cut into equal sections, `count` indices respaced in each."""
    counts = [int(count) for count in grid.split(",") if count]
    if sum(counts) != num_steps:
        raise ConfigError(f"grid '{grid}' holds {sum(counts)} steps, expected {num_steps}: change the grid or --steps")
    bounds = [num_timesteps // len(counts) * i + min(i, num_timesteps % len(counts)) for i in range(len(counts) + 1)]
    indices = []
    for count, (start, stop) in zip(counts, pairwise(bounds), strict=True):
        if not 1 <= count <= (size := stop - start):
            raise ConfigError(f"grid '{grid}' got {count} steps in a section of {size} timesteps, expected 1 to {size}")
        indices += [start + index for index in respace(stop - start, count)]
    return indices


def _ddim(num_timesteps: int, num_steps: int, grid: str) -> list[int]:
    """OpenAI's "ddimN": the smallest whole stride that gives exactly N indices from 0."""
    if grid[4:] not in ("", str(num_steps)):
        raise ConfigError(f"grid '{grid}' does not fit {num_steps} steps: write ddim or ddim{num_steps}")
    valid = {len(range(0, num_timesteps, stride)): stride for stride in range(num_timesteps, 0, -1)}
    if num_steps not in valid:
        nearest = sorted(sorted(valid, key=lambda count: abs(count - num_steps))[:4])
        raise ConfigError(
            f"no whole stride gives {num_steps} of {num_timesteps} steps: "
            f"the nearest that work are {', '.join(map(str, nearest))}"
        )
    return list(range(0, num_timesteps, valid[num_steps]))


def _karras(process: Process, num_steps: int, low: float) -> list[float]:
    high = min(float(process.ratio(process.noise_end)), KARRAS_SIGMA_MAX)
    roots = np.linspace(high ** (1 / KARRAS_RHO), low ** (1 / KARRAS_RHO), num_steps)
    return [float(t) for t in process.time(roots**KARRAS_RHO)]


_GRIDS = {"leading": _leading, "linspace": _linspace, "trailing": _trailing, "respaced": respace}
