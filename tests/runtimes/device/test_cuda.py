"""The GPU: what is said where there is none, and, where there is one, what the processor computes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from toys import Toy

from drun.device import cuda
from drun.device.device import Device
from drun.device.walk import DeviceWalk
from drun.diffusion import samplers
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import Observer, walk
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import DeviceUnavailable, OutOfMemory
from drun.extras import is_installed

has_gpu = cuda.why_none() is None
needs_gpu = pytest.mark.skipif(not has_gpu, reason="needs a CUDA device")
without_gpu = pytest.mark.skipif(has_gpu, reason="there is a CUDA device")


@without_gpu
@pytest.mark.skipif(not is_installed("cuda.core"), reason="needs cuda-core")
def test_no_gpu_is_one_sentence() -> None:
    with pytest.raises(DeviceUnavailable, match=r"^there is no NVIDIA .*: use --device cpu, or a machine with"):
        cuda.Cuda()


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (35, r"^there is no NVIDIA driver, or it is too old for CUDA \d+:"),
        (100, "^there is no NVIDIA GPU"),
        (3, r"^CUDA does not start \(cudaErrorInitializationError\)"),
    ],
)
@pytest.mark.skipif(not is_installed("cuda.bindings"), reason="needs cuda-bindings")
def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, result: int, sentence: str) -> None:
    from cuda.bindings import runtime

    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t(result), 0))
    with pytest.raises(DeviceUnavailable, match=sentence):
        cuda.check_device()


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_installed", lambda name: name != "cuda.core")
    assert cuda.why_none() == "cuda-core is not installed: pip install 'dexport[cuda]'"


class Graphs:
    """A stream that builds graphs of nothing."""

    def create_graph_builder(self) -> Any:
        return self

    def begin_building(self, mode: str) -> None: ...
    def end_building(self) -> None: ...

    def complete(self) -> Any:
        return self

    def launch(self, stream: Any) -> None: ...


class Context:
    """What a call of TensorRT needs: the graph of the call uses its memory."""


def test_a_graph_holds_what_its_work_needs() -> None:
    device = object.__new__(cuda.Cuda)
    device.stream = Graphs()
    context = Context()
    held = weakref.ref(context)

    def work(context: Context = context) -> None: ...

    replay = device.captured(work)
    del context, work
    gc.collect()
    assert held() is not None
    replay()
    del replay
    gc.collect()
    assert held() is None


class ToyBeside(Toy):
    """Computed on the host, between copies from and to the device."""

    is_capturable = False

    def __init__(self, device: Device, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.device = device

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Any:
        """A call that copies."""
        dtypes = [np.float32, np.float32, np.int64][: len(addresses) - 1]
        shapes = [(batch, *self.shape), (batch,), (batch,)]

        def call() -> None:
            arrays = [np.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
            for address, array in zip(addresses, arrays, strict=False):
                self.device.download(address, array)
            self.device.upload(self.predict(*arrays), addresses[-1])

        return call


@needs_gpu
@pytest.mark.parametrize("weight", [1.0, 1.8])
def test_a_walk_on_the_gpu_is_the_walk_on_the_host(weight: float) -> None:
    device = cuda.Cuda()
    table = with_guidance(samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", 250), weight)
    toy = ToyBeside(device, (3, 6, 7), num_classes=5, scale=1e-3)
    labels, finals, frames = np.array([4, 0, 2]), [], []
    for carry in (DeviceWalk(device, toy, 3), lambda *args: walk(toy.predict, *args)):
        noise = PhiloxNoise(7, (3, 0, 12), toy.shape)
        shown: dict[int, Any] = {}
        observer = Observer(rows=(3, 4, 249), show=lambda row, x, shown=shown: shown.update({row: x.copy()}))
        finals.append(carry(table, noise(), labels, Guidance(5), noise, observer))
        frames.append(shown)
    assert np.linalg.norm(finals[0] - finals[1]) <= 1e-5 * np.linalg.norm(finals[1])
    for row, frame in frames[1].items():
        np.testing.assert_allclose(frames[0][row], frame, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_copies_beside_the_work() -> None:
    device = cuda.Cuda()
    memory = device.allocate(400)
    given, got = np.arange(100, dtype=np.float32), np.empty(100, np.float32)
    device.begin_upload(given, memory.address)
    device.wait()
    device.begin_download(memory.address, got)
    device.upload(np.zeros(100, np.float32), memory.address)  # later work does not change what is read
    device.wait()
    np.testing.assert_array_equal(got, given)


@needs_gpu
def test_the_gpu_has_less_memory_than_this() -> None:
    with pytest.raises(OutOfMemory, match="bytes left, and 1,125,899,906,842,624 are needed: lower --batch"):
        cuda.Cuda().allocate(1 << 50)
