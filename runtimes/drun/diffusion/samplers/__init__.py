"""The samplers: one file each, and the file name is the sampler's name.

A file holds `steps(process, num_steps, *, option=default, ...) -> list[Step]` and `CLIP_X0`, which says whether the
clean image is clipped by default. The signature of `steps` is what `--set` accepts, besides the two options that all
samplers share: `clip_x0` and `dynamic_threshold`.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from drun.diffusion.process import Process
from drun.diffusion.table import Clip, StepTable, assemble
from drun.errors import ConfigError

#: A table has one row per network call, so more steps would only fill the memory.
MAX_STEPS = 100_000


def names() -> list[str]:
    """All samplers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def fitting(process: Process) -> list[str]:
    """The samplers that can run this process."""
    return [name for name in names() if _fits(name, process)]


def _fits(name: str, process: Process) -> bool:
    try:
        return bool(_module(name).steps(process, 1))
    except ConfigError:
        return False


def summary(name: str) -> str:
    """The first line of the sampler's docstring."""
    return (_module(name).__doc__ or "").partition("\n")[0]


def defaults(name: str) -> dict[str, Any]:
    """Every option of a sampler with its default value."""
    module = _module(name)
    signature = inspect.signature(module.steps)
    own = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    return own | {"clip_x0": module.CLIP_X0, "dynamic_threshold": 0.0}


def resolve(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of sampler `name`: its defaults, overridden by `given` (values may be strings).

    Raises:
        ConfigError: unknown sampler or option, or a value of the wrong type.
    """
    options = defaults(name)
    for key, value in given.items():
        if key not in options:
            raise ConfigError(f"sampler '{name}' has no option '{key}': choose from {', '.join(options)}")
        options[key] = _coerce(key, value, options[key])
    return options


def step_table(
    name: str,
    process: Process,
    prediction: str,
    num_steps: int,
    options: Mapping[str, Any] | None = None,
    variance: str | None = None,
) -> StepTable:
    """The table of sampler `name` for a network.

    Args:
        process: the noising law that the network was trained on.
        prediction: what the network returns, as in `drun.diffusion.prediction`.
        num_steps: 1..100,000; Heun's method calls the network twice in a step.
        options: the sampler's own, `clip_x0` and `dynamic_threshold`; the rest have their defaults.
        variance: `learned_range` if the network returns a variance, too.

    Raises:
        ConfigError: unknown sampler or option, or one that does not fit the process or the network.
    """
    if num_steps > MAX_STEPS:
        raise ConfigError(f"the number of steps got {num_steps}, expected at most {MAX_STEPS:,}")
    own = resolve(name, options or {})
    clip_x0, dynamic_quantile = own.pop("clip_x0"), own.pop("dynamic_threshold")
    if not 0 <= dynamic_quantile <= 1:
        raise ConfigError(f"dynamic_threshold got {dynamic_quantile}, expected a quantile from 0 (off) to 1")
    clip = Clip(dynamic_quantile) if clip_x0 or dynamic_quantile else None
    return assemble(process, prediction, _module(name).steps(process, num_steps, **own), clip, variance)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ConfigError(f"unknown sampler '{name}': choose one of {', '.join(names())}")
    return import_module(f"{__name__}.{name}")


def _coerce(key: str, value: Any, default: Any) -> Any:
    try:
        if isinstance(default, bool) and isinstance(value, str):
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, bool | int | float | str):
            raise TypeError
        coerced = type(default)(value)
        if isinstance(coerced, float) and not math.isfinite(coerced):
            raise ValueError
        return coerced
    except (KeyError, TypeError, ValueError, OverflowError):
        expected = {bool: "true or false", str: "text"}.get(type(default), "a finite number")
        raise ConfigError(f"option {key} got '{value}', expected {expected}") from None
