"""The settings of a run with their defaults and checks. They need no numpy, so that command lines start fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from drun.errors import ConfigError

STATE_DTYPES = ("float32", "float64")
#: How [-1, 1] becomes 0..255; see `drun.run.images.CONVERSIONS`.
ROUNDINGS = ("round", "floor", "adm")
#: In place of a backend: the one that `dbench pick` found to be the fastest here.
AUTO = "auto"
HINTS = ("latency", "throughput")
#: Steps of a sampler, and images computed at a time, unless the user says otherwise.
DEFAULT_STEPS, DEFAULT_BATCH = 250, 8


#: More threads than any processor has would only take its memory.
MAX_THREADS = 256
#: A sample of a seed has a number below this.
NUM_SAMPLES = 2**63


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raises ConfigError if a program gives something else than a whole number from `low` to `high`."""
    if not hasattr(value, "__index__") or not low <= value <= high:
        raise ConfigError(f"{name} got {value!r:.40}, expected a whole number from {low} to {high:,}")


@dataclass(frozen=True)
class SamplingSettings:
    """The settings that an image depends on, besides the bundle and the backend."""

    sampler: str
    options: dict[str, Any]
    num_steps: int
    seed: int = 0
    labels: str | None = None
    cfg: float = 1.0
    interval: tuple[float, float] | None = None
    cfg_channels: int | None = None  # None: the bundle's; 0: all
    state_dtype: str = "float32"
    uint8: str = "round"
    noise: str | None = None  # sha256 of the noise file

    def __post_init__(self) -> None:
        if not math.isfinite(self.cfg):
            raise ConfigError(f"--cfg got {self.cfg}, expected a finite weight such as 1.5")
        if self.interval is not None and not (len(self.interval) == 2 and all(map(math.isfinite, self.interval))):
            raise ConfigError(f"--interval got {','.join(map(str, self.interval))}, expected two finite times")
        for key, choices in (("state_dtype", STATE_DTYPES), ("uint8", ROUNDINGS)):
            if getattr(self, key) not in choices:
                option = f"--{key.replace('_', '-')}"
                raise ConfigError(f"{option} got '{getattr(self, key)}', expected {' or '.join(choices)}")


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime computes, apart from the arithmetic."""

    threads: int = 0  # of the processor; 0: the runtime's choice
    device: str | None = None  # None: the backend's first device that is here
    #: how a batch is shared: latency: all threads compute it together; throughput: each thread computes an equal part;
    #: None: the backend's choice, which is the same for any number of threads
    hint: str | None = None
    trust: bool = False  # open files that can execute code
    compile: bool = False  # by torch.compile, where the backend is PyTorch: minutes first, then faster calls

    def __post_init__(self) -> None:
        check_whole("--threads", self.threads, 0, MAX_THREADS)
        if self.hint not in (None, *HINTS):
            raise ConfigError(f"--hint got '{self.hint}', expected {' or '.join(HINTS)}")


DEFAULT_OPTIONS = RuntimeOptions()
