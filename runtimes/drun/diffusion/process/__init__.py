"""Forward noising laws x_t = alpha(t) x_0 + sigma(t) eps, in float64.

The trainer turns their arrays into tensors, the samplers into tables.
"""

from __future__ import annotations

from typing import Any

from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError

#: Any noising law: alpha, sigma, ratio and velocity at the model's own times, and the ODE that solvers follow.
Process = DiscreteProcess | FlowProcess
KINDS: dict[str, type[DiscreteProcess] | type[FlowProcess]] = {"discrete": DiscreteProcess, "flow": FlowProcess}
#: What a file must say: a default would be a silent guess.
REQUIRED = {"discrete": ("schedule", "num_timesteps"), "flow": ("path", "noise_time")}


def from_dict(config: dict[str, Any]) -> Process:
    """Read a process as `to_dict` wrote it.

    Raises:
        ConfigError: unknown kind, or a missing, unknown or wrong field.
    """
    fields = dict(config)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"unknown process kind '{kind}', expected {' or '.join(KINDS)}")
    if missing := [key for key in REQUIRED[kind] if key not in fields]:
        raise ConfigError(f"process {config} has a wrong or missing field: '{missing[0]}'")
    try:
        return KINDS[kind](**fields)
    except TypeError as error:
        raise ConfigError(f"process {config} has a wrong or missing field: {error}") from error
