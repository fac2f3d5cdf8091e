"""Single calls beside eager PyTorch: timed, compared, and doubted where they compute something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from openings import on, on_null

from dbench.core import inputs, timing
from dbench.core.record import ResultRow
from dbench.suites.latency import Settings
from dbench.suites.latency.calls import call_rows, eager_call, parity_rows, timing_row, worst_call
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.run.golden import read_golden


def values(rows: list[ResultRow]) -> dict[str, float | None]:
    return {row.name: row.value for row in rows}


@pytest.fixture
def threads() -> Iterator[int]:
    """PyTorch's number of threads, one more than before, for the time of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield before + 1
    torch.set_num_threads(before)


@pytest.mark.usefixtures("quick")
def test_calls_with_eager_torch(model: Any, threads: int) -> None:
    bundle: Bundle = model.open()
    feeds = inputs.example(bundle, 2)
    with eager_call(bundle, model.checkpoint, feeds, 1) as eager, on("ort", bundle, threads=1) as opened:
        assert torch.get_num_threads() == 1
        assert eager().shape == (2, 1, 16, 16)
        settings = Settings(model.bundle, batch=2, repeats=3)
        rows = call_rows([opened], eager, bundle, feeds, settings, silent)
    assert torch.get_num_threads() == threads
    found = values(rows)
    assert all(value is not None and value > 0 for value in found.values())
    ratio = found["eager torch / ort onnx-fp32, of medians"]
    assert ratio == found["eager torch, call"] / found["ort onnx-fp32, call"]
    assert found["ort onnx-fp32, relative L2 to eager torch"] < 1e-5
    assert found["ort onnx-fp32, worst relative L2 of the golden calls"] < 1e-5
    assert found["ort onnx-fp32, allowed relative L2"] == 1e-5
    call = next(row for row in rows if row.name == "ort onnx-fp32, call")
    assert (call.unit, call.doubt) == ("ms", None)
    assert call.p10 <= call.value <= call.p90
    assert len(call.details["latencies_ms"]) == 3


def test_the_speed_of_what_computes_something_else_is_doubtful(model: Any) -> None:
    bundle: Bundle = model.open()
    proof = worst_call(on_null(bundle), read_golden(bundle))
    assert proof.relative_l2 > 1e-2
    assert not proof.passed
    times = timing.Timing((1.0, 1.0, 1.0))
    assert "does not compute what eager PyTorch computes" in (timing_row("x, call", times, 1, "", proof).doubt or "")
    assert parity_rows("x", proof)[0].details["passed"] is False
    with on("ort", bundle, threads=1) as right:
        assert timing_row("x, call", times, 1, "", worst_call(right, read_golden(bundle))).doubt is None
