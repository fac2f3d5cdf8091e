"""ONNX Runtime computes the graph that the manifest lists, and opens no other."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from openings import on

from drun.backends import null, ort
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError
from drun.files import sha256


def test_ort_computes_what_null_computes(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    backend, closed_form = on("ort", bundle).backend, null.Runtime(bundle)
    assert backend.describe() == "ONNX Runtime on CPU"
    rng = np.random.default_rng(0)
    for size in (1, 4, 4, 2):  # bound buffers must follow new arrays and new sizes
        x, y = rng.standard_normal((size, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, size)
        t = np.full(size, 63, np.float32)
        np.testing.assert_allclose(backend.predict(x, t, y), closed_form.predict(x, t, y), rtol=1e-5, atol=1e-6)
        x *= -1
        np.testing.assert_allclose(backend.predict(x, t, y), closed_form.predict(x, t, y), rtol=1e-5, atol=1e-6)
    backend.close()


def test_an_onnx_file_that_is_none(bundle: Bundle) -> None:
    """Its sha256 is right, so only the runtime can tell."""
    path = bundle.path / "denoiser.fp32.onnx"
    path.write_bytes(b"hello")
    artifact = replace(bundle.manifest.artifacts[0], files=(FileEntry(path.name, sha256(path)),))
    with pytest.raises(BundleError, match=r"denoiser.fp32.onnx' is damaged: it is not an ONNX graph"):
        ort.Runtime(bundle, artifact, "fp32")


def opened(bundle: Bundle, graph: onnx.ModelProto, *more: str) -> ort.Runtime:
    """A bundle whose graph is another, which the manifest lists, with more files."""
    path = bundle.path / "denoiser.fp32.onnx"
    path.write_bytes(graph.SerializeToString())
    files = tuple(FileEntry(name, sha256(bundle.path / name)) for name in (path.name, *more))
    return ort.Runtime(bundle, replace(bundle.manifest.artifacts[0], files=files), "fp32")


def test_an_onnx_file_that_onnx_runtime_cannot_read(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path / "denoiser.fp32.onnx")
    graph.graph.node[0].op_type = "Nonsense"
    with pytest.raises(BackendUnavailable, match=r"ONNX Runtime .* cannot open '.*denoiser.fp32.onnx'"):
        opened(bundle, graph)


@pytest.mark.parametrize("where", ["initializer", "attribute", "function"])
def test_weights_in_a_file_that_is_not_listed_are_refused(bundle: Bundle, where: str) -> None:
    """Wherever the graph names them."""
    graph = onnx.load(bundle.path / "denoiser.fp32.onnx")
    tensor = onnx.TensorProto(data_type=1, dims=[1], name="w", data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.data")
    node = onnx.helper.make_node("Constant", [], ["unused"], value=tensor)
    if where == "initializer":
        graph.graph.initializer.append(tensor)
    elif where == "attribute":
        graph.graph.node.insert(0, node)
    else:
        graph.functions.append(onnx.helper.make_function("own", "f", [], ["unused"], [node], []))
    (bundle.path / "weights.data").write_bytes(bytes(4))
    with pytest.raises(BundleError, match=r"names the file 'weights.data', which the manifest does not list: refused"):
        opened(bundle, graph)


def test_weights_in_a_listed_file_are_read(bundle: Bundle) -> None:
    path = bundle.path / "denoiser.fp32.onnx"
    x, t = np.ones((2, 3, 8, 8), np.float32), np.full(2, 50, np.float32)
    graph = onnx.load(path)
    expected = opened(bundle, graph).predict(x, t)
    onnx.save(graph, path, save_as_external_data=True, location="weights.data", size_threshold=100)  # not of shapes
    external = onnx.load(path, load_external_data=False)
    assert external.graph.initializer[0].external_data
    np.testing.assert_array_equal(opened(bundle, external, "weights.data").predict(x, t), expected)


def test_a_graph_of_another_size_is_refused(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path / "denoiser.fp32.onnx")
    for value in (graph.graph.input[0], graph.graph.output[0]):
        value.type.tensor_type.shape.dim[2].dim_value = 9
    with pytest.raises(BundleError, match=r"not the manifest's network: '(x|out)' got float32 .*, expected float32 "):
        opened(bundle, graph)


def test_a_graph_with_another_output_is_refused(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path / "denoiser.fp32.onnx")
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "noise"
    with pytest.raises(BundleError, match=r"'(noise|out)' got .*, expected"):
        opened(bundle, graph)


def test_threads_may_share_a_backend(bundle: Bundle) -> None:
    """Called at once by four threads it computes what it computes for one, byte for byte."""
    backend = on("ort", bundle).backend
    rng = np.random.default_rng(0)
    inputs = [(rng.standard_normal((n, 3, 8, 8), np.float32), np.full(n, 9 * n, np.float32)) for n in range(1, 9)] * 20
    alone = [backend.predict(x, t).copy() for x, t in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: backend.predict(*pair).copy(), inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_damaged_file_is_not_opened(bundle: Bundle) -> None:
    with (bundle.path / "denoiser.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"is damaged"):
        on("ort", bundle)


def test_a_call_that_the_runtime_refuses(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    backend = on("ort", bundle).backend
    with pytest.raises(BackendUnavailable, match=r"ONNX Runtime failed on a batch of 2: "):
        backend.predict(np.zeros((2, 3, 8, 8), np.float32), np.zeros(2, np.float32))


BLOCKS = """
import ctypes, sys
from pathlib import Path
import numpy as np
from drun.backends import ort
from drun.backends.ort import session
from drun.bundle import reading

class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def newly_mapped():
    before = libc.mallinfo2().hblks
    block = np.empty(8 << 20, np.uint8)
    return libc.mallinfo2().hblks - before

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
with session._freed_memory_returned():
    print(newly_mapped())
bundle = reading.read(Path(sys.argv[1]))
ort.Runtime(bundle, bundle.manifest.artifacts[0], "fp32").close()
print(newly_mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="mallinfo2 is of glibc 2.33 and later")
def test_an_open_session_leaves_large_blocks_to_the_heap(bundle: Bundle) -> None:
    """Blocks that are mapped and unmapped at each call made eager PyTorch 1.6 times slower beside a session."""
    # In a process of its own, because other threads have heaps of another kind.
    done = subprocess.run([sys.executable, "-c", BLOCKS, str(bundle.path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]
