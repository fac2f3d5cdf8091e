"""A processor in the place of a GPU: the device walk runs on it with the kernel that GPUs get, compiled by g++."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import drun.device
from drun.device.device import Device
from drun.device.layout import THREADS, num_blocks

SHIM = Path(__file__).with_name("processor.cpp")
SOURCES = Path(drun.device.__file__).parent
#: Two roundings for a product and a sum; its own symbols go before those of other libraries.
COMPILER = [
    *["g++", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fopenmp"],
    *["-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-Bsymbolic"],
]
HAS_COMPILER = shutil.which("g++") is not None


@cache
def kernel() -> ctypes.CDLL:
    """The compiled kernel, which multiplies and adds with two roundings, as GPUs do with --fmad=false."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "step.so"
        subprocess.run([*COMPILER, f"-I{SOURCES}", str(SHIM), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.run_update.argtypes = (*(ctypes.c_void_p,) * 2, *(ctypes.c_uint,) * 3, ctypes.c_int)
    loaded.run_advance.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    return loaded


class HostMemory:
    def __init__(self, num_bytes: int) -> None:
        self.content = np.full(num_bytes, 0xFF, np.uint8)  # NaN: nobody may read what nobody wrote

    @property
    def address(self) -> int:
        return self.content.ctypes.data


class Processor(Device):
    """Copies beside the work happen as late as they may: in `wait`. As on a GPU, a thread must make it current first.

    threads: that compute the blocks of a kernel.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.own = threading.local()
        self.late: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.num_waits = self.num_captured = self.num_updates = 0

    def make_current(self) -> None:
        self.own.is_current = True

    def check_thread(self) -> None:
        """Raises RuntimeError in a thread that has not made it current."""
        if not getattr(self.own, "is_current", False):
            raise RuntimeError("this thread has not made the device current")

    def allocate(self, num_bytes: int) -> HostMemory:
        self.check_thread()
        return HostMemory(num_bytes)

    def upload(self, array: NDArray[Any], address: int) -> None:
        self.check_thread()
        at(address, array.shape, array.dtype)[...] = array

    def download(self, address: int, array: NDArray[Any]) -> None:
        self.check_thread()
        array[...] = at(address, array.shape, array.dtype)

    def begin_upload(self, array: NDArray[Any], address: int) -> None:
        self.check_thread()
        self.late.append((at(address, array.shape, array.dtype), array.copy()))

    def begin_download(self, address: int, array: NDArray[Any]) -> None:
        self.check_thread()
        self.late.append((array, at(address, array.shape, array.dtype).copy()))

    def update(self, walk: int, place: int, samples: int, numbers: int) -> None:
        self.check_thread()
        self.num_updates += 1
        kernel().run_update(walk, place, num_blocks(numbers), samples, THREADS, self.threads)

    def advance(self, walk: int, place: int) -> None:
        self.check_thread()
        kernel().run_advance(walk, place)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        self.num_captured += 1
        return work

    def wait(self) -> None:
        self.check_thread()
        self.num_waits += 1
        for destination, source in self.late:
            destination[...] = source
        self.late.clear()


def at(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """What lies at an address."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))
    array: NDArray[Any] = content.view(dtype).reshape(shape)
    return array
