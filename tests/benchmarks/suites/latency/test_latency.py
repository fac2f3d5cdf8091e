"""`dbench latency` on a tiny real bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbench.core import inputs, timing
from dbench.core.record import Result, ResultRow
from dbench.suites import latency
from dbench.suites.latency import Settings, measuring, table
from dbench.suites.latency.calls import call_rows, eager_call, parity_rows, timing_row, worst_call
from dbench.suites.latency.loops import loop_rows
from drun.backends import null
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError, ConfigError
from drun.run.golden import read_golden
from drun.run.opening import Candidate, Opened, choose, open_candidate
from drun.settings import RuntimeOptions


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)


def values(rows: list[ResultRow]) -> dict[str, float | None]:
    return {row.name: row.value for row in rows}


def on(backend: str, bundle: Bundle) -> Opened:
    return open_candidate(bundle, choose(bundle, backend), RuntimeOptions(threads=1))


@pytest.mark.usefixtures("quick")
def test_calls_with_eager_torch(model: Any) -> None:
    bundle: Bundle = model.open()
    feeds, threads = inputs.example(bundle, 2), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with eager_call(bundle, model.checkpoint, feeds, 1) as eager, on("ort", bundle) as opened:
        assert torch.get_num_threads() == 1
        assert eager().shape == (2, 1, 16, 16)
        settings = Settings(model.bundle, batch=2, repeats=3)
        rows = call_rows([opened], eager, bundle, feeds, settings, silent)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
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


class Wrong(null.Runtime):
    """Computes something else than the bundle's network."""


def test_the_speed_of_what_computes_something_else_is_doubtful(model: Any) -> None:
    bundle: Bundle = model.open()
    wrong = Opened(Candidate("null", None, "fp32"), Wrong(bundle))
    proof = worst_call(wrong, read_golden(bundle))
    assert proof.relative_l2 > 1e-2
    assert not proof.passed
    times = timing.Timing((1.0, 1.0, 1.0))
    assert "does not compute what eager PyTorch computes" in (timing_row("x, call", times, 1, "", proof).doubt or "")
    assert parity_rows("x", proof)[0].details["passed"] is False
    with on("ort", bundle) as right:
        assert timing_row("x, call", times, 1, "", worst_call(right, read_golden(bundle))).doubt is None


class Counting(null.Runtime):
    """Counts its calls; each takes some milliseconds."""

    calls = 0

    def predict(self, *arrays: Any) -> Any:
        self.calls += 1
        time.sleep(2e-3)
        return super().predict(*arrays)


@pytest.mark.usefixtures("quick")
def test_the_loop_makes_as_many_calls_as_are_compared_with_it_and_takes_longer(model: Any) -> None:
    bundle: Bundle = model.open()
    backend = Counting(bundle)
    rows = loop_rows(
        [Opened(Candidate("null", None, "fp32"), backend)], bundle, Settings(model.bundle, steps=4, repeats=8), silent
    )
    loop, bare, overhead = rows
    assert [row.name for row in rows] == ["null, loop of 4 steps", "null, 4 bare calls", "null, loop overhead"]
    assert backend.calls == 2 * 4 * (1 + 8)  # a loop and its calls, once untimed
    pairs = zip(loop.details["latencies_ms"], bare.details["latencies_ms"], strict=True)
    assert all(one >= 4 * 2 for row in (loop, bare) for one in row.details["latencies_ms"])
    assert overhead.value == pytest.approx(np.median([100 * (whole - part) / part for whole, part in pairs]))


@pytest.mark.usefixtures("quick")
def test_on_a_network_that_does_nothing_the_loop_takes_longer_than_its_calls(model: Any) -> None:
    bundle: Bundle = model.open()
    settings = Settings(model.bundle, steps=20, repeats=15)
    loop, bare, overhead = loop_rows([on("null", bundle)], bundle, settings, silent)
    assert loop.value > bare.value > 0
    assert overhead.value > 0


def test_the_bare_calls_get_the_loops_shapes(model: Any) -> None:
    x, t = inputs.example(model.open(), 3)
    assert (x.shape, x.dtype, t.tolist(), t.dtype) == ((3, 1, 16, 16), np.float32, [999.0] * 3, np.float32)


@pytest.mark.usefixtures("quick")
def test_the_command(model: Any, dbench: Callable[..., Any]) -> None:
    arguments = ["--steps", 2, "--repeats", 1, "--threads", 1, "--backend", "ort", "--out", "results"]
    done = dbench("latency", model.bundle, "--checkpoint", model.checkpoint, *arguments)
    assert done.code == 0, done.err
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(next(Path("results").glob("latency-tiny-*.json")).read_text())
    assert str(model.bundle.parent) not in done.out
    rows = {row["name"]: row for row in last["rows"]}
    assert len(rows) == len(last["rows"])
    assert rows["ort, drun imports torch"]["value"] is False
    assert "| ort, drun imports torch | no |" in done.out
    assert rows["ort onnx-fp32, cold start to the first image, 2 steps"]["value"] > 0.05
    assert last["machine"]["num_threads"] == last["settings"]["threads"] == 1
    assert last["settings"]["targets"] == ["ort onnx-fp32"]
    assert last["subject"]["checkpoint_sha256"] == model.open().manifest.model.checkpoint["sha256"]
    assert last["subject"]["bundle_sha256"] == json.loads((model.bundle / "manifest.json").read_text())["sha256"]
    assert all(row["p10"] is not None for row in last["rows"] if row["headline"])
    peak, network = rows["ort onnx-fp32, drun peak memory, 16 images, 2 steps"], "weights and activations"
    above = rows[f"ort onnx-fp32, drun above {network}"]["value"]
    own = rows[f"ort onnx-fp32, {network} (backend alone - runtime imported)"]["value"]
    assert above == pytest.approx(peak["value"] - own)
    assert 0 < above < 150
    assert peak["value"] < rows["ort onnx-fp32, drun peak memory, 1 image, 2 steps"]["value"] + 10
    size = (model.bundle / "denoiser.fp32.onnx").stat().st_size
    assert rows["ort onnx-fp32, weight files"]["details"]["bytes"] == size
    assert {"processor", "threads", "versions", "commit"} <= {line.split(":")[0][2:] for line in done.out.splitlines()}
    assert dbench("report", "page.html", "--bundle", model.bundle).code == 0
    page = Path("page.html").read_text()
    parity = next(row["value"] for name, row in rows.items() if name.endswith("of the golden calls"))
    line = page[page.rindex('<tr><th scope="row">ort onnx-fp32</th>') :].partition("</tr>")[0]
    assert f'<td data-label="relative L2">{parity:.3g}</td><td data-label="allowed">1e-05</td>' in line


def measure(model: Any, **settings: object) -> Result:
    return latency.measure(Settings(model.bundle, **settings), silent)  # type: ignore[arg-type]


def test_another_checkpoint_is_refused(model: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(model.checkpoint.read_bytes() + b"1")
    with pytest.raises(ConfigError, match=r"is not what 'tiny' was exported from: sha256 got .*, expected .*digits-"):
        measure(model, checkpoint=other)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        measure(model, checkpoint=tmp_path / "absent.pt")


def test_a_batch_that_no_artifact_has(model: Any) -> None:
    with pytest.raises(ConfigError, match="--batch got 9, onnx-fp32 takes 1 to 8"):
        measure(model, batch=9)


def test_what_cannot_be_opened_is_left_out_by_name(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle: Bundle = model.open()
    good = choose(bundle, "ort")
    assert good.artifact is not None
    small = replace(good, artifact=replace(good.artifact, batch=(1, 1), variant="small"))
    with ExitStack() as stack:
        opened = measuring.open_all(stack, bundle, [small, good], RuntimeOptions(1), batch=2)
    assert [one.candidate for one in opened] == [good]
    expected = "warning: ort onnx-fp32-small is not timed: --batch got 2, onnx-fp32-small takes 1 to 1\n"
    assert capsys.readouterr().err == expected
    lost = replace(good, artifact=replace(good.artifact, files=(replace(good.artifact.files[0], path="lost.onnx"),)))
    with ExitStack() as stack, pytest.raises(BundleError, match=r"lost\.onnx"):
        measuring.open_all(stack, bundle, [lost, small], RuntimeOptions(1), batch=2)


def test_a_line_of_the_table_for_each_target(model: Any) -> None:
    rows = (
        ResultRow("latency", "a x, call", 1.5, "ms"),
        ResultRow("latency", "a x, loop of 7 steps", 12.0, "ms"),
        ResultRow("latency", "b y in bf16, call", 0.5, "ms", doubt="wrong"),
        ResultRow("latency", "b y in bf16, allowed relative L2", 6e-2, ""),
    )
    from dbench.core import machine

    settings = {"targets": ["a x", "b y in bf16"], "steps": 7}
    markup = table.speeds(Result(rows, {"name": "tiny"}, settings, machine.fingerprint(), ""))
    lines = [line.partition("</tr>")[0] for line in markup.split("<tr>")[2:4]]
    assert lines[0].startswith('<th scope="row">a x</th><td data-label="call ms">1.50</td>')
    assert '<td data-label="relative L2">–</td>' in lines[0]
    assert lines[1].startswith('<th scope="row">b y in bf16</th><td data-label="call ms">0.500 †</td>')
    assert '<td data-label="allowed">0.0600</td>' in lines[1]
