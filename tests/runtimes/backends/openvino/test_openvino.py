"""OpenVINO on IR and ONNX: what it computes, in which arithmetic, in how many threads, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from openings import on

from drun import backends, cache
from drun.backends import null
from drun.backends.openvino import Runtime, compiler, graph
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError, ConfigError
from drun.files import sha256
from drun.settings import HINTS, RuntimeOptions

HAS_BF16 = "BF16" in graph.capabilities()
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


def as_ir(bundle: Bundle, **files: bytes) -> Bundle:
    """The bundle with its ONNX graph as IR; `xml` and `bin` replace what OpenVINO wrote."""
    source = bundle.manifest.artifacts[0]
    model = openvino.Core().read_model(bundle.path / source.files[0].path)
    path = bundle.path / "denoiser.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    for kind, content in files.items():
        path.with_suffix(f".{kind}").write_bytes(content)
    return with_files(bundle, "openvino", "denoiser.xml", "denoiser.bin")


def with_files(bundle: Bundle, kind: str, *names: str) -> Bundle:
    """The bundle whose one artifact is of this format and has these files, rightly hashed."""
    files = tuple(FileEntry(name, sha256(bundle.path / name)) for name in names)
    artifact = replace(bundle.manifest.artifacts[0], format=kind, files=files)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=(artifact,)))


def opened(bundle: Bundle, arithmetic: str = "fp32", **options: Any) -> Runtime:
    return Runtime(bundle, bundle.manifest.artifacts[0], arithmetic, RuntimeOptions(**options))


def inputs(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 3, 8, 8)).astype(np.float32)
    return x, np.full(size, 63, np.float32), rng.integers(0, 10, size)


# ---- what it computes -----------------------------------------------------------------------------------


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


# ---- arithmetic -----------------------------------------------------------------------------------------


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
    assert Runtime.arithmetics(replace(artifact, precision="fp16")) == ()


# ---- threads --------------------------------------------------------------------------------------------


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
    assert list(backend.compiler.held) == [2, 3, 4, 5]
    assert list(backend.own.bounds) == [3, 4, 2, 5]


def test_options_reach_the_compiled_graph(bundle: Bundle) -> None:
    compiled, num_parts = opened(bundle, threads=1).compiler.compiled(4)
    assert num_parts == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.inputs[0].shape == [4, 3, 8, 8]


def test_for_throughput_a_batch_is_cut_into_as_many_equal_parts_as_threads_can_take(bundle: Bundle) -> None:
    of_two = opened(bundle, threads=2, hint="throughput").compiler
    assert [of_two.compiled(size)[1] for size in (1, 2, 3, 4)] == [1, 2, 1, 2]
    assert of_two.compiled(4)[0].inputs[0].shape == [2, 3, 8, 8]
    assert of_two.compiled(4)[0].get_property("NUM_STREAMS") == 2


# ---- the cache ------------------------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The batches for which a graph is compiled anew."""
    sizes: list[int] = []
    compile_anew = compiler.Compiler._compile

    def compile_(self: compiler.Compiler, size: int, config: Any) -> Any:
        sizes.append(size)
        return compile_anew(self, size, config)

    with monkeypatch.context() as patch:
        patch.setattr(compiler.Compiler, "_compile", compile_)
        yield sizes


def test_a_compiled_graph_is_kept_and_read_again(bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = inputs(3)[:2]
    with counted(monkeypatch) as sizes:
        first = opened(bundle).predict(*call).copy()
        again = opened(bundle).predict(*call).copy()
        assert sizes == [3]
        opened(bundle).predict(*inputs(2)[:2])
        opened(bundle, threads=1).predict(*call)
        assert sizes == [3, 2, 3]
    np.testing.assert_array_equal(first, again)
    assert cached.stat().st_mode & 0o777 == 0o700
    assert [entry.what for entry in cache.entries()][-1] == "OpenVINO, onnx-fp32 in fp32, compiled for batches of 3"


@pytest.mark.parametrize("damage", ["byte", "cut", "whole"])
def test_what_is_damaged_in_the_cache_is_compiled_anew(
    bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """`whole`: rightly hashed, but nothing that OpenVINO reads."""
    call = inputs(3)[:2]
    expected = opened(bundle).predict(*call).copy()
    (blob,) = cached.glob("*/compiled.blob")
    content = blob.read_bytes()
    blob.write_bytes({"byte": content[:-1] + b"?", "cut": content[:99], "whole": b"hello" * 99}[damage])
    if damage == "whole":
        record = blob.with_name("entry.json")
        record.write_text(re.sub("[0-9a-f]{64}", sha256(blob), record.read_text()))
    with counted(monkeypatch) as sizes:
        np.testing.assert_array_equal(opened(bundle).predict(*call), expected)
    assert sizes == [3]


def test_without_a_cache_it_computes_all_the_same(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "file"))
    call = inputs(2)[:2]
    np.testing.assert_allclose(opened(bundle).predict(*call), null.Runtime(bundle).predict(*call), rtol=1e-5, atol=1e-6)


def test_a_large_graph_is_not_kept(bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "CACHED_BYTES", 100)
    opened(bundle).predict(*inputs(2)[:2])
    assert not cached.exists()


# ---- what it refuses ------------------------------------------------------------------------------------


def ir_text(bundle: Bundle) -> str:
    as_ir(bundle)
    return (bundle.path / "denoiser.xml").read_text()


def test_an_ir_of_a_newer_openvino(bundle: Bundle) -> None:
    text = re.sub(r'(name="OpenVINO Runtime" value=")\d+', r"\g<1>2099", ir_text(bundle))
    newer = re.sub(r'version="opset\d+"', 'version="opset99"', text)
    with pytest.raises(
        BackendUnavailable, match=r"denoiser.xml' is of OpenVINO 2099\.\S+, this is 20\S+: pip install -"
    ):
        opened(as_ir(bundle, xml=newer.encode()))
    # What it can read is read, whatever wrote it.
    opened(as_ir(bundle, xml=text.encode())).predict(*inputs(1)[:2])


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "format": lambda text: text.replace('version="11"', 'version="99"', 1),
    "extension": lambda text: text.replace('type="Gather"', 'type="Evil"').replace('"opset8"', '"evil.so"'),
    "offset": lambda text: re.sub(r'offset="\d+"', 'offset="18446744073709551000"', text),
    "size": lambda text: re.sub(r'size="\d+"', 'size="99999999999"', text),
    "shape": lambda text: re.sub(r'shape="(\d)', r'shape="9999\1', text),
    "edges": lambda text: re.sub(r'to-layer="\d+"', 'to-layer="2"', text),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ir_is_one_sentence(bundle: Bundle, damage: str) -> None:
    text = ir_text(bundle)
    assert DAMAGES[damage](text) != text
    with pytest.raises(BackendUnavailable, match=r"^OpenVINO \S+ cannot open '.*denoiser.xml': [^\n]+$") as caught:
        opened(as_ir(bundle, xml=DAMAGES[damage](text).encode()))
    assert ".cpp" not in str(caught.value).partition("xml':")[2]


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_weights_of_another_size(bundle: Bundle, content: bytes) -> None:
    with pytest.raises(BackendUnavailable, match=r"cannot open '.*denoiser.xml': Incorrect weights in bin file"):
        opened(as_ir(bundle, bin=content))


def test_an_ir_may_not_name_entities_or_libraries(bundle: Bundle, tmp_path: Path) -> None:
    """Neither is followed: a file that would be opened by it is not there, and the network computes as before."""
    text = ir_text(bundle)
    head, _, body = text.partition("?>")
    library = tmp_path / "evil.so"
    entity = f'{head}?><!DOCTYPE net [<!ENTITY x SYSTEM "file://{library}">]>{body}'
    named = entity.replace("<rt_info>", f'<rt_info><extension value="{library}"/><path value="{library}"/>', 1)
    call = inputs(2)[:2]
    expected = null.Runtime(bundle).predict(*call)
    np.testing.assert_allclose(opened(as_ir(bundle, xml=named.encode())).predict(*call), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("openvino", ["denoiser.xml"]), ("openvino", ["denoiser.bin", "denoiser.xml"]), ("onnx", ["denoiser.xml"]),
     ("openvino", ["denoiser.fp32.onnx"])],
)  # fmt: skip
def test_a_file_that_would_open_another_unasked_is_refused(bundle: Bundle, kind: str, names: list[str]) -> None:
    as_ir(bundle)
    with pytest.raises(BundleError, match=rf"the artifact {kind}-fp32 got the files .*, expected \.(xml|onnx)"):
        opened(with_files(bundle, kind, *names))


def test_weights_in_a_file_that_is_not_listed_are_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "denoiser.fp32.onnx")
    onnx.save(model, bundle.path / "denoiser.fp32.onnx", save_as_external_data=True, location="w", size_threshold=100)
    with pytest.raises(BundleError, match=r"names the file 'w', which the manifest does not list: refused"):
        opened(with_files(bundle, "onnx", "denoiser.fp32.onnx"))
    backend, call = opened(with_files(bundle, "onnx", "denoiser.fp32.onnx", "w")), inputs(2)[:2]
    np.testing.assert_allclose(backend.predict(*call), null.Runtime(bundle).predict(*call), rtol=1e-5, atol=1e-6)


def test_another_network_than_the_manifest_says_is_refused(bundle: Bundle) -> None:
    text = ir_text(bundle)
    with pytest.raises(BundleError, match=r"is not the manifest's network: '(out|noise)' got .*, expected "):
        opened(as_ir(bundle, xml=text.replace('names="out"', 'names="noise"').encode()))
    artifact = bundle.manifest.artifacts[0]
    static = replace(bundle, manifest=replace(bundle.manifest, artifacts=(replace(artifact, batch=(4, 4)),)))
    with pytest.raises(BundleError, match=r"is not the manifest's network: "):
        opened(as_ir(static))


def test_a_changed_file_is_not_opened(bundle: Bundle) -> None:
    bundle = as_ir(bundle)
    (bundle.path / "denoiser.bin").write_bytes(bytes(99))
    with pytest.raises(BundleError, match=r"denoiser.bin' is damaged: sha256 got"):
        opened(bundle)


# ---- the library ----------------------------------------------------------------------------------------


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
