"""The ways to draw: the papers' loop around PyTorch, eager and compiled, and `drun` on the targets of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from dbench.core.selection import open_all
from dbench.suites.throughput import loops
from dbench.suites.throughput.papers import WEIGHTS, Papers, cast
from dbench.suites.throughput.settings import ThroughputSettings
from drun import backends
from drun.bundle.reading import Bundle
from drun.console import warn
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError, UserError
from drun.run.opening import Opened, candidates
from drun.run.sampling import Walker
from drun.settings import RuntimeOptions
from dtrain.published import Denoiser


@dataclass(frozen=True)
class Way:
    """A way to draw."""

    name: str
    timed: Walker
    compared: Walker  # the same with the noise of the run
    opened: Opened | None = None  # by `drun`

    @property
    def allowed(self) -> float:
        """The largest relative L2 of its images that passes: of PyTorch itself nothing is expected."""
        return self.opened.tolerance().trajectory if self.opened else float("inf")


def check_precisions(precisions: Sequence[str], device: torch.device) -> None:
    """Raises ConfigError for a precision that is unknown, or that the device lacks."""
    for one in precisions:
        if one not in WEIGHTS:
            raise ConfigError(f"--precision got '{one}', expected one of {', '.join(WEIGHTS)}")
        if one == "tf32" and device.type != "cuda":
            raise ConfigError(f"--precision got tf32, {device.type} has none: use fp32, or --device cuda")


class PaperWays:
    """The papers' loop around one network, on one device.

    Raises:
        ConfigError: a model that no such loop takes.
    """

    def __init__(self, denoiser: Denoiser, device: torch.device) -> None:
        self.denoiser, self.device = denoiser, device
        self.loop = loops.loop_of(denoiser.card)
        if device.type == "mps" and isinstance(denoiser.card.process, FlowProcess):
            raise ConfigError("--device got mps, which has no float64 for the papers' loop of flows: use cpu or cuda")
        self.networks: dict[torch.dtype, Any] = {}
        #: the precision in which the papers' code computes
        self.usual = "tf32" if device.type == "cuda" else "fp32"

    def reference(self) -> Papers:
        """Eager in float32, with the noise of the run."""
        return self._papers("fp32", is_compiled=False, own_noise=False)

    def all(self, precisions: Sequence[str]) -> list[Way]:
        """As the papers run it, then in each precision, eager and compiled."""
        ways = [self._way(self.usual, is_compiled=False)]
        for precision in dict.fromkeys(precisions):
            ways += [self._way(precision, is_compiled=False)] if precision != self.usual else []
            ways.append(self._way(precision, is_compiled=True))
        return ways

    def _way(self, precision: str, is_compiled: bool) -> Way:
        walker = self._papers(precision, is_compiled, own_noise=True)
        name = f"the papers' loop, {'compiled' if is_compiled else 'eager'} PyTorch in {precision}"
        return Way(name, walker, replace(walker, own_noise=False))

    def _papers(self, precision: str, is_compiled: bool, own_noise: bool) -> Papers:
        dtype = WEIGHTS[precision]
        if dtype not in self.networks:
            self.networks[dtype] = cast(self.denoiser.network, dtype, self.device)
        network = self.networks[dtype]
        called = torch.compile(network, dynamic=False) if is_compiled else network
        return Papers(self.loop, called, self.device, precision, own_noise)


def of_bundle(stack: ExitStack, bundle: Bundle, device: torch.device, settings: ThroughputSettings) -> list[Way]:
    """What can be opened on the device and computes in a wanted precision, also compiled where PyTorch compiles it.

    Raises UserError if the user named backends and they open nothing; otherwise a warning says why there is nothing.
    """
    try:
        return [Way(_name(one), one, one, one) for one in _opened(stack, bundle, device, settings)]
    except UserError as error:
        if settings.backends:
            raise
        warn(f"drun draws nothing: {error}")
        return []


def _opened(stack: ExitStack, bundle: Bundle, device: torch.device, settings: ThroughputSettings) -> list[Opened]:
    found = [
        one
        for one in candidates(bundle, settings.backends, device.type)
        if one.arithmetic in settings.precisions and not backends.load(one.backend).is_reference
    ]
    if not found:
        wanted = ", ".join(settings.precisions)
        raise ConfigError(f"'{bundle.path}' holds nothing that computes in {wanted} on {device.type}: export it first")
    plain = RuntimeOptions(device=device.type, trust=settings.trust)
    opened = open_all(stack, bundle, found, plain)
    if able := [one.candidate for one in opened if backends.load(one.name).can_compile]:
        opened += open_all(stack, bundle, able, replace(plain, compile=True))
    return opened


def _name(opened: Opened) -> str:
    return f"drun, {opened.candidate.name}{', compiled' if opened.backend.options.compile else ''}"
