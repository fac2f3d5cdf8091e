"""`dbench latency` on a tiny real bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
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
