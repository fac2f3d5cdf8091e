"""OpenVINO on IR and ONNX: what it computes, in which arithmetic, in how many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from irs import as_ir, inputs, opened, with_files
from onnx import TensorProto, helper, numpy_helper
from openings import on

from drun import backends
from drun.backends import null
from drun.backends.openvino import Runtime, graph
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, ConfigError
from drun.settings import HINTS

HAS_BF16 = "BF16" in graph.capabilities()


needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


@pytest.mark.parametrize("convert", [as_ir, lambda bundle: bundle], ids=["ir", "onnx"])
@pytest.mark.parametrize("hint", HINTS)
def test_it_computes_what_null_computes(
    make_bundle: Callable[..., Path], convert: Callable[[Bundle], Bundle], hint: str
) -> None:
    bundle = convert(bundles.read(make_bundle(conditional=True)))
    backend, closed_form = opened(bundle, hint=hint), null.Runtime(bundle)
    assert backend.describe() == "OpenVINO on CPU"
    for size in (1, 4, 4, 2, 7, 1):  # bound buffers must follow new arrays and new sizes
        x, t, y = inputs(size)
        np.testing.assert_allclose(backend.predict(x, t, y), closed_form.predict(x, t, y), rtol=1e-5, atol=1e-6)
        x *= -1
        np.testing.assert_allclose(backend.predict(x, t, y), closed_form.predict(x, t, y), rtol=1e-5, atol=1e-6)
    backend.close()


@pytest.mark.parametrize("convert", [as_ir, lambda bundle: bundle], ids=["ir", "onnx"])
def test_a_static_batch(make_bundle: Callable[..., Path], convert: Callable[[Bundle], Bundle]) -> None:
    bundle = convert(bundles.read(make_bundle(batch=(4, 4))))
    backend, (x, t, _) = opened(bundle, hint="throughput"), inputs(4)
    np.testing.assert_allclose(backend.predict(x, t), null.Runtime(bundle).predict(x, t), rtol=1e-5, atol=1e-6)


def test_the_same_arrays_stay_bound_and_others_are_bound_anew(bundle: Bundle) -> None:
    backend, (x, t, _) = opened(bundle), inputs(2)
    out = backend.predict(x, t)
    assert np.shares_memory(backend.predict(x, t), out)
    with pytest.raises(BackendUnavailable, match="OpenVINO failed on a batch of 2: "):
        backend.predict(x)
    other = x + 1
    with pytest.raises(BackendUnavailable, match="OpenVINO failed on a batch of 2: "):
        backend.predict(other, t.astype(np.float64))
    expected = null.Runtime(bundle).predict(x, t)
    np.testing.assert_allclose(backend.predict(x, t), expected, rtol=1e-5, atol=1e-6)


def test_a_run_through_every_command(make_bundle: Callable[..., Path], drun: Callable[..., Any]) -> None:
    folder = make_bundle()
    assert drun("check", folder, "--backend", "openvino").code == 0
    done = drun("--bundle", folder, "--backend", "openvino", "--steps", 5, "-n", 2, "--out", "out", "--threads", 1)
    assert done.code == 0, done.err
    assert '"OpenVINO on CPU"' in (Path("out") / "run.json").read_text()


def matrix_bundle(bundle: Bundle) -> Bundle:
    """The bundle with a 3 x 3 product of channels, which bfloat16 rounds."""
    matrix = np.random.default_rng(1).standard_normal((3, 3, 1, 1)).astype(np.float32)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])]
    values += [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N"])]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3, 8, 8])
    nodes = [
        helper.make_node("Conv", ["x", "matrix"], ["mixed"]),
        helper.make_node("Reshape", ["t", "per_image"], ["time"]),
        helper.make_node("Add", ["mixed", "time"], ["out"]),
    ]
    constants = [
        numpy_helper.from_array(matrix, "matrix"),
        numpy_helper.from_array(np.array([-1, 1, 1, 1]), "per_image"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values, [out], constants),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
    onnx.save(model, bundle.path / "denoiser.fp32.onnx")
    return with_files(bundle, "onnx", "denoiser.fp32.onnx")


@needs_bf16
def test_bf16_is_computed_only_when_it_is_asked_for(bundle: Bundle) -> None:
    """Also where the compiled graph comes from the cache."""
    bundle = matrix_bundle(bundle)
    x, t, _ = inputs(4)
    matrix = numpy_helper.to_array(onnx.load(bundle.path / "denoiser.fp32.onnx").graph.initializer[0])[:, :, 0, 0]
    exact = np.einsum("oc,nchw->nohw", matrix.astype(np.float64), x) + 63
    for _ in range(2):
        error = {
            name: np.linalg.norm(opened(bundle, name).predict(x, t) - exact) / np.linalg.norm(exact - 63)
            for name in ("fp32", "bf16")
        }
        assert error["fp32"] < 1e-5
        assert 1e-4 < error["bf16"] < 6e-2


def test_arithmetics_are_those_of_the_processor(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = bundle.manifest.artifacts[0]
    monkeypatch.setattr("drun.backends.openvino.capabilities", lambda: ["FP32", "BF16"])
    assert Runtime.arithmetics(artifact) == ("fp32", "bf16")
    monkeypatch.setattr("drun.backends.openvino.capabilities", lambda: ["FP32"])
    assert Runtime.arithmetics(artifact) == ("fp32",)
    with pytest.raises(ConfigError, match="--precision got bf16, openvino can compute in fp32: "):
        on("openvino", bundle, "bf16")
    for precision in ("fp16", "bf16"):  # whatever the processor has: `computes` says what is computed
        assert Runtime.arithmetics(replace(artifact, precision=precision)) == (precision,)


@pytest.mark.parametrize("hint", HINTS)
def test_threads_may_share_a_backend(bundle: Bundle, hint: str) -> None:
    """Called at once by four threads it computes what it computes for one, byte for byte."""
    backend = opened(bundle, hint=hint, threads=2)
    calls = [inputs(size, seed)[:2] for seed, size in enumerate([*range(1, 9)] * 10)]
    alone = [backend.predict(*call).copy() for call in calls]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda call: backend.predict(*call).copy(), calls))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_only_a_few_compiled_graphs_are_kept(bundle: Bundle) -> None:
    backend = opened(bundle)
    for size in (1, 2, 3, 4, 2, 5):
        backend.predict(*inputs(size)[:2])
    assert list(backend.compiler.graphs) == [2, 3, 4, 5]
    assert [size for size, _ in backend.own.bounds] == [3, 4, 2, 5]


def test_options_reach_the_compiled_graph(bundle: Bundle) -> None:
    compiled, num_parts = opened(bundle, threads=1, hint="latency").compiler.compiled(4)
    assert num_parts == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.inputs[0].shape == [4, 3, 8, 8]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_has_two_halves_whatever_the_threads(bundle: Bundle, threads: int) -> None:
    compiler = opened(bundle, threads=threads).compiler
    assert [compiler.compiled(size)[1] for size in (1, 2, 3, 4)] == [1, 2, 1, 2]
    compiled, _ = compiler.compiled(4)
    assert compiled.inputs[0].shape == [2, 3, 8, 8]
    assert compiled.get_property("NUM_STREAMS") == threads


def test_for_latency_a_batch_stays_whole(bundle: Bundle) -> None:
    assert opened(bundle, threads=2, hint="latency").compiler.compiled(4)[1] == 1


def test_for_throughput_a_batch_is_cut_into_as_many_equal_parts_as_threads_can_take(bundle: Bundle) -> None:
    of_three = opened(bundle, threads=3, hint="throughput").compiler
    assert [of_three.compiled(size)[1] for size in (1, 2, 3, 4)] == [1, 2, 3, 2]
    assert of_three.compiled(3)[0].inputs[0].shape == [1, 3, 8, 8]


def test_where_it_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drun.backends.openvino.is_installed", lambda name: False)
    with pytest.raises(
        BackendUnavailable, match=r"openvino is not installed; install it with: pip install 'dexport\[op"
    ):
        on("openvino", bundle)


@pytest.mark.parametrize("word", ["ir", "Intel", "OV"])
def test_other_words_for_it(word: str) -> None:
    with pytest.raises(
        ConfigError, match=r"use --backend openvino, which is OpenVINO; install it with: .*\[openvino\]"
    ):
        backends.load(word)


ALONE = """
import sys
sys.modules["torch"] = None
from drun.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "openvino" in sys.modules
assert not any(name.startswith(("openvino_telemetry", "onnxruntime", "dtrain")) for name in sys.modules)
"""


def test_it_runs_without_pytorch_and_reports_nothing_to_anyone(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """Its telemetry keeps an identifier in the user's home."""
    home = tmp_path / "home"
    home.mkdir()
    command = [
        sys.executable,
        "-c",
        ALONE,
        "--bundle",
        str(make_bundle()),
        "--backend",
        "openvino",
        "--steps",
        "5",
        "-n",
        "2",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())


def test_the_preferred_backend_is_chosen_without_loading_it(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    code = (
        "import sys, drun\n"
        f"with drun.load({str(make_bundle())!r}).session() as session: print(session.opened.name)\n"
        "assert 'openvino' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("ort\n", 0), done.stderr
