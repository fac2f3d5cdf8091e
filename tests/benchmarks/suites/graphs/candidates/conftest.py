from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dbench.suites.graphs import measuring, states
from dbench.suites.graphs.candidates import Candidate
from dbench.suites.graphs.opening import opened
from dbench.suites.graphs.source import Original
from drun.console import silent


@pytest.fixture
def error() -> Callable[[Candidate, Original], float]:
    """The worst relative L2 of a candidate from eager PyTorch, in a batch of 2."""

    def of(candidate: Candidate, original: Original) -> float:
        original = replace(original, batch=2)
        session = opened(candidate(original), original.part, 1)
        return measuring.worst(session, states.references(original, silent)).relative_l2

    return of
