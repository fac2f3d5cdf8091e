"""Forward noising laws x_t = alpha(t) x_0 + sigma(t) eps, in float64.

The trainer turns their arrays into tensors, the samplers into tables.
"""

from __future__ import annotations

from typing import Any

from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError, door
from drun.typed import typed

#: Any noising law: alpha, sigma, ratio and velocity at the model's own times, and the ODE that solvers follow.
Process = DiscreteProcess | FlowProcess
KINDS: dict[str, type[DiscreteProcess] | type[FlowProcess]] = {"discrete": DiscreteProcess, "flow": FlowProcess}
#: The keys that a file must have: a default would be a silent guess.
REQUIRED = {"discrete": ("schedule", "num_timesteps"), "flow": ("path", "noise_time")}


def from_dict(config: dict[str, Any]) -> Process:
    """Read a process as `to_dict` wrote it.

    Raises:
        ConfigError: unknown kind, or a missing, unknown or wrong field.
    """
    fields = dict(config)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"unknown process kind '{kind}', expected {' or '.join(KINDS)}")
    with door("process has a wrong or missing field", ConfigError, f"expected {' and '.join(REQUIRED[kind])}"):
        for key in REQUIRED[kind]:
            fields[key]  # a missing one raises
        process: Process = typed(KINDS[kind], fields, "process")
        return process
