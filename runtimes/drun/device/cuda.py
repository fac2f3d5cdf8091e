"""An NVIDIA GPU, by cuda-core and cuda-bindings: 15 MB, and no PyTorch."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.device import ptx
from drun.device.device import Device, Memory
from drun.device.layout import THREADS, num_blocks
from drun.errors import BackendUnavailable, DeviceUnavailable, OutOfMemory, reason
from drun.extras import is_installed

INSTALL = "pip install 'dexport[cuda]'"
#: Results of cudaGetDeviceCount.
NO_DEVICE, OLD_DRIVER = 100, 35
OUT_OF_MEMORY = "OUT_OF_MEMORY"


def why_none() -> str | None:
    """Why there is no CUDA device here, in words; None if there is one. Nothing raises, and nothing is made."""
    if not is_installed("cuda.bindings") or not is_installed("cuda.core"):
        return f"cuda-core is not installed: {INSTALL}"
    try:
        from cuda.bindings import runtime

        error, count = runtime.cudaGetDeviceCount()
    except (ImportError, RuntimeError, OSError) as failure:
        return f"cuda-bindings is installed but does not load ({reason(failure)})"
    if int(error) == OLD_DRIVER:
        return f"there is no NVIDIA driver, or it is too old for CUDA {_cuda_of_bindings()}"
    if int(error) not in (0, NO_DEVICE):
        return f"CUDA does not start ({error.name})"
    return None if count else "there is no NVIDIA GPU"


def _cuda_of_bindings() -> str:
    from cuda.bindings import __version__

    return str(__version__).partition(".")[0]  # drivers of one major version read all of its minor ones


def check_device() -> None:
    """Raises DeviceUnavailable if there is no CUDA device here."""
    if why := why_none():
        raise DeviceUnavailable(f"{why}: use --device cpu, or a machine with an NVIDIA GPU and its driver")


def facts() -> dict[str, str]:
    """What numbers depend on: the GPU and its driver. Raises DeviceUnavailable if there is none."""
    check_device()
    from cuda.core import Device as Gpu
    from cuda.core import system

    major, minor = Gpu(0).compute_capability
    versions = [system.get_user_mode_driver_version()]
    with suppress(RuntimeError):  # without NVML
        versions.append(system.get_kernel_mode_driver_version())
    driver = " ".join(".".join(map(str, version)) for version in versions)
    return {"gpu": Gpu(0).name, "capability": f"{major}.{minor}", "driver": driver}


class Cuda(Device):
    """The first GPU that CUDA_VISIBLE_DEVICES lets through.

    Raises:
        DeviceUnavailable: there is none.
    """

    def __init__(self) -> None:
        check_device()
        from cuda.core import Device as Gpu
        from cuda.core import LegacyPinnedMemoryResource, ObjectCode

        self.gpu = Gpu(0)
        self.make_current()
        self.stream, self.beside = self.gpu.create_stream(), self.gpu.create_stream()
        code = ObjectCode.from_ptx(ptx.SHIPPED.read_bytes())
        self.kernels = {name: code.get_kernel(name) for name in ("update", "advance")}
        self.pinned = LegacyPinnedMemoryResource()
        #: bytes -> pinned memory that nobody uses now: to allocate it can make the device wait
        self.spare: dict[int, list[Any]] = defaultdict(list)
        #: copies beside the work, since the last `wait`: pinned memory and where it goes on the host
        self.copies: list[tuple[Any, NDArray[Any] | None]] = []
        self.snapshots: list[Any] = []

    @property
    def handle(self) -> int:
        """The address of the stream, for runtimes."""
        return int(self.stream.handle)

    def make_current(self) -> None:
        self.gpu.set_current()

    def allocate(self, num_bytes: int) -> Memory:
        return _Allocated(self._buffer(num_bytes))

    def _buffer(self, num_bytes: int) -> Any:
        try:
            return self.gpu.allocate(num_bytes, stream=self.stream)
        except Exception as error:
            if OUT_OF_MEMORY not in str(error):
                raise BackendUnavailable(f"the GPU cannot allocate {num_bytes:,} bytes: {reason(error)}") from error
            raise OutOfMemory(
                f"the GPU has {self.free_bytes():,} bytes left, and {num_bytes:,} are needed: lower --batch, or "
                "free it of other programs"
            ) from error

    def free_bytes(self) -> int:
        """The memory that nobody has taken."""
        from cuda.bindings import driver

        _, free, _ = driver.cuMemGetInfo()
        return int(free)

    def upload(self, array: NDArray[Any], address: int) -> None:
        source = np.ascontiguousarray(array)
        _view(address, source.nbytes).copy_from(_view(source.ctypes.data, source.nbytes), stream=self.stream)
        self.stream.sync()

    def download(self, address: int, array: NDArray[Any]) -> None:
        _view(array.ctypes.data, array.nbytes).copy_from(_view(address, array.nbytes), stream=self.stream)
        self.stream.sync()

    def begin_upload(self, array: NDArray[Any], address: int) -> None:
        staged = self._staged(array.nbytes)
        ctypes.memmove(int(staged.handle), np.ascontiguousarray(array).ctypes.data, array.nbytes)
        _view(address, array.nbytes).copy_from(staged, stream=self.beside)
        self.copies.append((staged, None))

    def begin_download(self, address: int, array: NDArray[Any]) -> None:
        snapshot, staged = self._buffer(array.nbytes), self._staged(array.nbytes)
        snapshot.copy_from(_view(address, array.nbytes), stream=self.stream)  # before the next row changes it
        self.beside.wait(self.stream.record())
        staged.copy_from(snapshot, stream=self.beside)
        self.snapshots.append(snapshot)
        self.copies.append((staged, array))

    def _staged(self, num_bytes: int) -> Any:
        spare = self.spare[num_bytes]
        return spare.pop() if spare else self.pinned.allocate(num_bytes)

    def update(self, walk: int, place: int, samples: int, numbers: int) -> None:
        self._launch("update", (num_blocks(numbers), samples), THREADS, walk, place)

    def advance(self, walk: int, place: int) -> None:
        self._launch("advance", 1, 1, walk, place)

    def _launch(self, name: str, grid: Any, block: int, *addresses: int) -> None:
        from cuda.core import LaunchConfig, launch

        launch(self.stream, LaunchConfig(grid=grid, block=block), self.kernels[name], *addresses)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        builder = self.stream.create_graph_builder()
        builder.begin_building("thread_local")
        try:
            work()
        finally:
            builder.end_building()
        graph = builder.complete()

        def replay(work: Callable[[], None] = work) -> None:  # its contexts own memory that the graph uses
            graph.launch(self.stream)

        return replay

    def wait(self) -> None:
        try:
            self.stream.sync()
            self.beside.sync()
        except Exception as error:
            raise BackendUnavailable(f"the GPU failed: {reason(error)}") from error
        for staged, array in self.copies:
            if array is not None:
                ctypes.memmove(array.ctypes.data, int(staged.handle), array.nbytes)
            self.spare[staged.size].append(staged)
        self.copies.clear()
        self.snapshots.clear()


class _Allocated:
    """A buffer that goes back to the device, in the order of its stream, when nobody holds it."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    @property
    def address(self) -> int:
        return int(self.buffer.handle)


def _view(address: int, num_bytes: int) -> Any:
    """Memory that somebody else owns."""
    from cuda.core import Buffer

    return Buffer.from_handle(address, num_bytes)
