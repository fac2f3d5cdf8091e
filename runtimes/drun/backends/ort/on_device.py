"""What a device of ONNX Runtime has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.artifact import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.device.walk import DeviceWalk
from drun.settings import RuntimeOptions


class OnDevice(ABC):
    """A graph on a device.

    Raises:
        BackendUnavailable, BundleError: see `drun.backends.ort.session.open_session`. DeviceUnavailable: there is no
        such device.
    """

    #: the device in words
    name: str
    #: walks that stay on the device, where it has such
    device_walk: DeviceWalk | None = None

    @abstractmethod
    def __init__(self, bundle: Bundle, artifact: Artifact, arithmetic: str, options: RuntimeOptions) -> None: ...

    @abstractmethod
    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """See `drun.backends.Backend.predict`. Exceptions of ONNX Runtime pass."""

    def tolerance(self, usual: Tolerance) -> Tolerance:
        """See `drun.backends.Backend.tolerance`."""
        return usual

    def remark(self) -> str | None:
        """See `drun.backends.Backend.remark`."""
        return None
