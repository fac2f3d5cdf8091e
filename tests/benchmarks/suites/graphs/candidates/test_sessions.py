"""Sessions with other options, of the default's graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnxruntime
import pytest

from dbench.suites.graphs import candidates
from dbench.suites.graphs.candidates import sessions
from dbench.suites.graphs.opening import opened
from dbench.suites.graphs.source import Original

pytestmark = pytest.mark.slow  # a graph is made first

ENTRIES: dict[Any, tuple[str, str]] = {
    sessions.no_spinning: ("session.intra_op.allow_spinning", "0"),
    sessions.spinning_stopped: ("session.force_spinning_stop", "1"),
    sessions.denormals_as_zero: ("session.set_denormal_as_zero", "1"),
    sessions.no_prepacking: ("session.disable_prepacking", "1"),
    sessions.parallel_prepacking: ("session.prepack.enable_parallel", "1"),
}
ALL = [candidate for candidate in candidates.found().values() if candidate.__module__ == sessions.__name__]


def options_of(candidate: Any, original: Original) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    candidate(original).adjust(options)
    return options


@pytest.mark.parametrize("candidate", ENTRIES)
def test_an_entry_of_the_session(unet: Original, candidate: Any) -> None:
    key, value = ENTRIES[candidate]
    assert options_of(candidate, unet).get_session_config_entry(key) == value


def test_attributes_of_the_session(unet: Original) -> None:
    assert options_of(sessions.no_memory_pattern, unet).enable_mem_pattern is False
    assert options_of(sessions.no_arena, unet).enable_cpu_mem_arena is False
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert options_of(sessions.no_blocked_channels, unet).graph_optimization_level == level


def test_a_fixed_batch_is_the_only_one_that_the_session_takes(unet: Original) -> None:
    session = opened(sessions.fixed_batch(replace(unet, batch=2)), unet.part, 1).session
    assert session.get_inputs()[0].shape == [2, 1, 16, 16]


@pytest.mark.parametrize("candidate", ALL)
def test_every_session_computes_the_same(unet: Original, error: Callable[..., float], candidate: Any) -> None:
    assert error(candidate, unet) < 1e-5
