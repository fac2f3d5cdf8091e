"""Bundles with graphs in fp16 and bf16: what is written, what is proven how, and what a run computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exporting import STATIC, content
from onnx import TensorProto

from dexport.deploy import deployable
from dexport.proof import QUICK_PROOF
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order, Written
from drun import backends
from drun.backends import Probe
from drun.backends.openvino import graph
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError, ExportError
from drun.run.opening import choose, open_candidate
from dtrain import published

HAS_BF16 = "BF16" in graph.capabilities()
ROUNDED = "computed in fp32 with the weights rounded to {}"


def create(trained: Trained, out: Path, precision: str) -> Written:
    return create_bundle(trained, Order("onnx", precision, STATIC), out, QUICK_PROOF, silent)


@pytest.fixture(scope="module")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a U-Net, without a float32 graph."""
    out = tmp_path_factory.mktemp("bundles") / "low"
    for precision in ("bf16", "fp16"):
        create(trained, out, precision)
    return bundles.read(out)


@pytest.mark.parametrize(("precision", "narrow"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_the_graph_is_of_its_precision_with_islands(
    bundle: Bundle, tiny_checkpoint: Path, precision: str, narrow: int
) -> None:
    model = onnx.load(bundle.path / f"denoiser.{precision}.onnx")
    onnx.checker.check_model(model, full_check=True)
    values = (*model.graph.input, *model.graph.output)
    assert {value.type.tensor_type.elem_type for value in values} == {TensorProto.FLOAT}
    wide = {name.split(".module.")[0] for name in weights(model, TensorProto.FLOAT) if "." in name}
    network = published.load(tiny_checkpoint).network
    kept = {"time_mlp", "final_conv"} | {
        name for name, module in network.named_modules() if isinstance(module, torch.nn.GroupNorm)
    }
    assert wide == kept
    assert len(weights(model, narrow)) > 2 * len(kept)
    assert not model.metadata_props
    assert not any(node.metadata_props for node in model.graph.node)


def weights(model: Any, dtype: int) -> list[str]:
    return [one.name for one in model.graph.initializer if one.data_type == dtype]


def test_the_manifest_says_what_was_proven_how_and_what_stays_float32(bundle: Bundle) -> None:
    found = {artifact.precision: artifact for artifact in bundle.manifest.artifacts}
    said = {precision: artifact.parity and artifact.parity["backend"] for precision, artifact in found.items()}
    because = "" if HAS_BF16 else f", {ROUNDED.format('bf16')}, because this processor has no bf16"
    assert said == {
        "bf16": f"OpenVINO on CPU in bf16{because}",
        "fp16": f"ONNX Runtime on CPU in fp16, {ROUNDED.format('fp16')}",
    }
    for artifact in found.values():
        assert {"time_mlp", "final_conv", "downs.*.*.block.0"} <= {*artifact.target["fp32"]}


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_fp16_on_a_processor_is_float32_with_rounded_weights(
    bundle: Bundle, tiny_checkpoint: Path, backend: str
) -> None:
    """As `describe` says; were fp16 computed, the error would be a thousand times larger."""
    network = deployable(copy.deepcopy(published.load(tiny_checkpoint).network))
    narrow = {name for name, dtype in types(bundle, "fp16").items() if dtype == TensorProto.FLOAT16}
    x, t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0, 500.0])
    with torch.no_grad():
        unrounded = network(x, t).numpy()
        for name, parameter in network.named_parameters():
            if f"{name.rpartition('.')[0]}.layer.{name.rpartition('.')[2]}" in narrow:
                parameter.copy_(parameter.half().float())
        expected = network(x, t).numpy()
    with open_candidate(bundle, choose(bundle, backend, "fp16")) as opened:
        assert ROUNDED.format("fp16") in opened.describe()
        got = opened.call(x.numpy(), 500.0, None)
    assert np.linalg.norm(got - expected) < 2e-6 * np.linalg.norm(expected)
    assert np.linalg.norm(got - unrounded) > 1e-5 * np.linalg.norm(expected)


def types(bundle: Bundle, precision: str) -> dict[str, int]:
    model = onnx.load(bundle.path / f"denoiser.{precision}.onnx")
    return {one.name: one.data_type for one in model.graph.initializer}


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_openvino_keeps_the_islands_of_a_graph_in_bf16(bundle: Bundle) -> None:
    with open_candidate(bundle, choose(bundle, "openvino", "bf16")) as opened:
        compiled, _ = opened.backend.compiler.compiled(2)  # type: ignore[attr-defined]
        precisions: dict[str, list[str]] = {}
        for operation in compiled.get_runtime_model().get_ops():
            info = operation.get_rt_info()
            precisions.setdefault(info["layerType"].astype(str), []).append(info["runtimePrecision"].astype(str))
        x = np.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype(np.float32)
        near, far = (opened.call(x, t, None).copy() for t in (998.0, 999.0))
    assert precisions["FullyConnected"].count("f32") == 2  # of the time
    assert precisions["Convolution"].count("f32") == 1  # the last
    assert precisions["Convolution"].count("bf16") > 10
    assert np.linalg.norm(near - far) > 0  # bf16 knows neither time


def test_a_processor_without_bf16_says_what_it_computes(
    bundle: Bundle, in_process: Callable[[str], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drun.backends.openvino.capabilities", lambda: ["FP32"])
    run = in_process("drun")("--bundle", bundle.path, "--precision", "bf16", "--steps", 2, "-n", 1, "--out", "out")
    assert run.code == 0, run.err
    because = f"{ROUNDED.format('bf16')}, because this processor has no bf16"
    assert f"low, onnx-bf16, on OpenVINO on CPU in bf16, {because}: 1 images" in run.out
    shown = in_process("drun")("info", bundle.path)
    assert ", opset=22 fp32=time_mlp,downs.*.*.block.0," in shown.out


def test_what_openvino_derives_it_derives_of_float32(bundle: Bundle) -> None:
    before = content(bundle.path)
    message = r"has no onnx artifact in fp32, of which openvino is made: type dexport onnx PATH/TO/"
    with pytest.raises(BundleError, match=message):
        add_artifact(bundle.path, Order("openvino"), silent)
    assert content(bundle.path) == before


@pytest.mark.slow
def test_a_precision_that_no_backend_here_proves_is_unproven(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(False, "openvino is not installed", "pip install it")
    monkeypatch.setattr(backends.load("openvino"), "probe", staticmethod(lambda: probe))
    written = create(trained, tmp_path / "bundle", "bf16")
    assert written.unproven == {"onnx-bf16": "openvino is not installed; install it with: pip install it"}
    assert bundles.read(tmp_path / "bundle").manifest.artifacts[0].parity is None


def test_what_fp16_cannot_hold_ends_the_export_and_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    network = copy.deepcopy(trained.denoiser.network)
    network.mid_block1.block[2] = torch.nn.Sequential(network.mid_block1.block[2], Louder())
    louder = replace(trained, denoiser=replace(trained.denoiser, network=network))
    message = r"^'mid_block1\.block\.2\.1' computes [\d,]+ at t = \d+, fp16 holds at most 65,504: use --precision bf16"
    with pytest.raises(ExportError, match=message):
        create(louder, tmp_path / "bundle", "fp16")
    assert not list(tmp_path.iterdir())


class Louder(torch.nn.Module):
    """A million times as large; the norm behind it evens this out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e6
