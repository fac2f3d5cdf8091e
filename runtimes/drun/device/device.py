"""What a walk needs of a device. `drun.device.cuda` is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray


class Memory(Protocol):
    """Memory of a device, which is freed when nobody holds this object."""

    @property
    def address(self) -> int: ...


class Engine(Protocol):
    """A network on a device, as a runtime supplies it."""

    #: whether a call can be a part of a graph that the device replays
    is_capturable: bool

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """A call of this batch that reads its inputs at these addresses, and writes its output to the last one.

        The order is that of the artifact's `io`. The call begins on the device's stream, and nobody waits for it; it
        raises BackendUnavailable if it cannot begin.

        Raises:
            BackendUnavailable: the network does not take the batch. OutOfMemory: the device has too little.
        """


class Device(ABC):
    """A device with one stream for the work of a walk, and a second one for copies beside it."""

    @abstractmethod
    def make_current(self) -> None:
        """Let this thread use the device. Sessions are shared by threads, and one decodes while another one draws."""

    @abstractmethod
    def allocate(self, num_bytes: int) -> Memory:
        """Raises OutOfMemory, with the number of bytes that was asked for."""

    @abstractmethod
    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to the device after the work so far. The array may be changed afterwards."""

    @abstractmethod
    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copy from the device after the work so far, and wait for it."""

    @abstractmethod
    def begin_upload(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to the device beside the work. It is there after the next `wait`."""

    @abstractmethod
    def begin_download(self, address: int, array: NDArray[Any]) -> None:
        """Copy what is at the address after the work so far, beside all later work. It is there after the next
        `wait`."""

    @abstractmethod
    def update(self, walk: int, place: int, samples: int, numbers: int) -> None:
        """Begin the kernel `update`. walk, place: addresses. numbers: of a sample."""

    @abstractmethod
    def advance(self, walk: int, place: int) -> None:
        """Begin the kernel `advance`."""

    @abstractmethod
    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work as a graph: a function that begins all of it at once.

        It holds the work, whose contexts own memory that the graph uses, and nothing else that lies at its addresses.
        """

    @abstractmethod
    def wait(self) -> None:
        """Wait until all work and all copies have ended. Raises BackendUnavailable if something failed."""
