"""The processor: the session reads the caller's arrays, and writes into one of ours."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends.ort.on_device import OnDevice
from drun.backends.ort.session import open_session, settings_of
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.settings import RuntimeOptions

PROVIDER = "CPUExecutionProvider"


def why_not() -> str | None:
    return None


def facts() -> None:
    """None: the proof at the export was made on such a device."""


def arithmetics(artifact: Artifact) -> tuple[str, ...]:
    """ONNX Runtime has no bf16 for processors."""
    return () if artifact.precision == "bf16" else (artifact.precision,)


class OnProcessor(OnDevice):
    """Threads may share it."""

    name = "CPU"

    def __init__(self, bundle: Bundle, artifact: Artifact, arithmetic: str, options: RuntimeOptions) -> None:
        self.names = [tensor.name for tensor in artifact.io]
        self.output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.session = open_session(bundle, artifact, settings_of(options.threads), [PROVIDER])
        self.own = threading.local()

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        bound = self._bound(inputs)
        self.session.run_with_iobinding(bound.binding)
        return bound.out

    def _bound(self, inputs: tuple[NDArray[Any], ...]) -> Bound:
        """This thread's binding of the arrays. Threads may share a session, but not a binding."""
        bound: Bound | None = getattr(self.own, "bound", None)
        if bound is None or not bound.holds(inputs):
            bound = self.own.bound = Bound(self.session, self.names, self.output_shape, inputs)
        return bound


class Bound:
    """A session that reads the caller's arrays and writes into one array of ours, call after call."""

    def __init__(
        self, session: Any, names: Sequence[str], output_shape: tuple[int, ...], inputs: tuple[NDArray[Any], ...]
    ) -> None:
        self.inputs = inputs
        self.out = np.empty((len(inputs[0]), *output_shape), np.float32)
        self.binding = session.io_binding()
        for name, array in zip(names, inputs, strict=False):
            assert array.flags.c_contiguous, f"{name} is bound by its address, so it must lie in one piece"
            self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.binding.bind_output(names[-1], "cpu", 0, np.float32, self.out.shape, self.out.ctypes.data)

    def holds(self, inputs: tuple[NDArray[Any], ...]) -> bool:
        """Whether these very arrays are bound."""
        return all(one is other for one, other in zip(self.inputs, inputs, strict=True))


NETWORK = OnProcessor
