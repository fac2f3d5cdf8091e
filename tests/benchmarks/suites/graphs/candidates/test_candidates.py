"""The registry of candidates."""

from __future__ import annotations

from dbench.suites.graphs import candidates
from dbench.suites.graphs.candidates import exports, sessions


def test_every_public_function_is_a_candidate() -> None:
    found = candidates.found()
    assert found["raw-opset-23"] is exports.raw_opset_23
    assert found["fixed-batch"] is sessions.fixed_batch
    assert len(found) > 20
    assert not any(name.startswith("-") for name in found)


def test_a_candidate_says_what_it_is() -> None:
    summaries = {name: candidates.summary(candidate) for name, candidate in candidates.found().items()}
    assert summaries["no-spinning"] == "Threads sleep while they wait for work"
    assert all(summaries.values())
    assert len(set(summaries.values())) == len(summaries)
