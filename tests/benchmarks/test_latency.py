"""`dbench latency` on a tiny real bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbench.core import inputs, timing
from dbench.core.record import Result
from dbench.suites import latency
from dbench.suites.latency import Settings
from drun import backends
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BackendUnavailable, ConfigError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)


def values(rows: list) -> dict[str, float | None]:
    return {row.name: row.value for row in rows}


@pytest.mark.usefixtures("quick")
def test_calls_with_eager_torch(model: Any) -> None:
    bundle: Bundle = model.open()
    feeds, threads = inputs.example(bundle, 2), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    opened = {"ort": backends.open_backend("ort", bundle, None, {"threads": 1})}
    with latency.eager_call(bundle, model.checkpoint, feeds, 1) as eager:
        assert torch.get_num_threads() == 1
        assert eager().shape == (2, 1, 16, 16)
        rows = latency.call_rows(opened, eager, feeds, Settings(model.bundle, batch=2, repeats=3), silent)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    found = values(rows)
    assert all(value is not None and value > 0 for value in found.values())
    assert found["eager torch / ort, of medians"] == found["eager torch, call"] / found["ort, call"]
    assert found["ort, relative L2 to eager torch"] < 1e-5
    call = next(row for row in rows if row.name == "ort, call")
    assert call.unit == "ms"
    assert call.p10 <= call.value <= call.p90
    assert len(call.details["latencies_ms"]) == 3


@pytest.mark.parametrize("backend", ["ort", "null"])
def test_the_loop_takes_longer_than_its_calls(model: Any, backend: str) -> None:
    bundle: Bundle = model.open()
    opened = backends.open_backend(backend, bundle, None, {"threads": 1})
    rows = latency.loop_rows(backend, opened, bundle, Settings(model.bundle, steps=4, repeats=8), silent)
    found = values(rows)
    assert set(found) == {f"{backend}, loop of 4 steps", f"{backend}, 4 bare calls", f"{backend}, loop overhead"}
    assert len(rows[0].details["latencies_ms"]) == 8
    if backend == "null":  # which does almost nothing
        assert found["null, loop overhead"] > 0


def test_the_bare_calls_get_the_loops_shapes(model: Any) -> None:
    x, t, y = inputs.example(model.open(), 3)
    assert (x.shape, x.dtype, t.tolist(), y) == ((3, 1, 16, 16), np.float32, [999.0] * 3, None)


@pytest.mark.usefixtures("quick")
def test_the_command(model: Any, dbench: Callable[..., Any]) -> None:
    arguments = ["--steps", 2, "--repeats", 1, "--threads", 1, "--out", "results"]
    done = dbench("latency", model.bundle, "--checkpoint", model.checkpoint, *arguments)
    assert done.code == 0, done.err
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(next(Path("results").glob("latency-tiny-*.json")).read_text())
    assert str(model.bundle.parent) not in done.out
    rows = {row["name"]: row for row in last["rows"]}
    assert rows["ort, drun imports torch"]["value"] is False
    assert "| ort, drun imports torch | no |" in done.out
    assert rows["ort, cold start to the first image, 2 steps"]["value"] > 0.05
    assert last["machine"]["num_threads"] == last["settings"]["threads"] == 1
    assert last["subject"]["checkpoint_sha256"] == model.open().manifest.model.checkpoint["sha256"]
    assert last["subject"]["bundle_sha256"] == json.loads((model.bundle / "manifest.json").read_text())["sha256"]
    assert all(row["p10"] is not None for row in last["rows"] if row["headline"])
    peak, network = rows["ort, drun peak memory, 16 images, 2 steps"], "weights and activations"
    above = rows[f"ort, drun above {network}"]["value"]
    assert above == pytest.approx(peak["value"] - rows[f"ort, {network} (backend alone - runtime imported)"]["value"])
    assert 0 < above < 150
    assert peak["value"] < rows["ort, drun peak memory, 1 image, 2 steps"]["value"] + 10
    assert rows["ort, weight files"]["details"]["bytes"] == (model.bundle / "denoiser.fp32.onnx").stat().st_size
    assert {"processor", "threads", "versions", "commit"} <= {line.split(":")[0][2:] for line in done.out.splitlines()}


def measure(model: Any, **settings: object) -> Result:
    return latency.measure(Settings(model.bundle, **settings), silent)  # type: ignore[arg-type]


def test_another_checkpoint_is_refused(model: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(model.checkpoint.read_bytes() + b"1")
    with pytest.raises(ConfigError, match=r"is not what 'tiny' was exported from: sha256 got .*, expected .*digits-"):
        measure(model, checkpoint=other)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        measure(model, checkpoint=tmp_path / "absent.pt")


def test_a_batch_that_the_artifact_lacks(model: Any) -> None:
    with pytest.raises(ConfigError, match="--batch got 9, the artifact of 'ort' takes 1 to 8"):
        measure(model, batch=9)


def test_unknown_backend(model: Any) -> None:
    with pytest.raises(ConfigError, match="unknown backend 'abacus'"):
        measure(model, backends=("abacus",))


def test_backends_by_default_are_those_that_open_the_bundle(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle: Bundle = model.open()
    assert "ort" in inputs.able_backends(bundle)
    assert "null" not in inputs.able_backends(bundle)
    monkeypatch.setattr(inputs.backends, "names", lambda: ["null"])
    with pytest.raises(BackendUnavailable, match="no backend here can open"):
        inputs.able_backends(bundle)
