"""Today's default graph in sessions with other options."""

from __future__ import annotations

from typing import Any

from dbench.suites.graphs.candidates import Adjust, Attempt
from dbench.suites.graphs.source import Original


def fixed_batch(original: Original) -> Attempt:
    """A session for one batch size: all shapes are known when it opens."""
    return Attempt(
        original.default(), lambda options: options.add_free_dimension_override_by_name("batch", original.batch)
    )


def no_spinning(original: Original) -> Attempt:
    """Threads sleep while they wait for work."""
    return Attempt(original.default(), _entry("session.intra_op.allow_spinning", "0"))


def spinning_stopped(original: Original) -> Attempt:
    """Threads stop spinning when a call ends."""
    return Attempt(original.default(), _entry("session.force_spinning_stop", "1"))


def denormals_as_zero(original: Original) -> Attempt:
    """Denormal numbers are zero."""
    return Attempt(original.default(), _entry("session.set_denormal_as_zero", "1"))


def no_memory_pattern(original: Original) -> Attempt:
    """Activations are allocated one by one."""
    return Attempt(original.default(), lambda options: setattr(options, "enable_mem_pattern", False))


def no_arena(original: Original) -> Attempt:
    """Activations are allocated by the C library."""
    return Attempt(original.default(), lambda options: setattr(options, "enable_cpu_mem_arena", False))


def no_prepacking(original: Original) -> Attempt:
    """Weights are used in the order in which they are stored."""
    return Attempt(original.default(), _entry("session.disable_prepacking", "1"))


def parallel_prepacking(original: Original) -> Attempt:
    """Weights are reordered by all threads while the session opens."""
    return Attempt(original.default(), _entry("session.prepack.enable_parallel", "1"))


def no_blocked_channels(original: Original) -> Attempt:
    """Convolutions as matrix products instead of kernels on blocks of channels, NCHWc."""

    def adjust(options: Any) -> None:
        from drun.backends.ort.session import library

        options.graph_optimization_level = library().GraphOptimizationLevel.ORT_ENABLE_EXTENDED

    return Attempt(original.default(), adjust)


def _entry(key: str, value: str) -> Adjust:
    return lambda options: options.add_session_config_entry(key, value)
