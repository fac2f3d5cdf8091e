"""OpenVINO on processors: IR and ONNX, in float32 or, where the processor has it, in bfloat16; quantised IR in int8."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe
from drun.backends.openvino.compiler import Compiler, kept, precision_hint
from drun.backends.openvino.ends import Ends, ends_of
from drun.backends.openvino.graph import capabilities, cause, library
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable
from drun.extras import is_installed
from drun.settings import DEFAULT_OPTIONS, HINTS, RuntimeOptions
from drun.version import version_of


class Runtime(Backend):
    summary = "OpenVINO"
    formats = ("openvino", "onnx")
    hints = HINTS
    nicknames = dict.fromkeys(("ov", "ir", "intel"), "openvino")

    @staticmethod
    def probe() -> Probe:
        install = "pip install 'dexport[openvino]'"
        if not is_installed("openvino"):
            return Probe(False, "openvino is not installed", install)
        return Probe(True, f"openvino {version_of('openvino')}", install)

    @staticmethod
    def import_library() -> None:
        library()

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """A graph in fp32 is computed in fp32 or, where the processor has it, in bf16; of others see `computes`."""
        if artifact.precision != "fp32":
            return (artifact.precision,)
        return ("fp32", "bf16") if "BF16" in capabilities() else ("fp32",)

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        self.names = [tensor.name for tensor in artifact.io]
        self.output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.compiler = Compiler(bundle, artifact, arithmetic, options)
        self.ends: Ends | None = ends_of(bundle, artifact, options)
        self.own = threading.local()

    def describe(self) -> str:
        return "OpenVINO on CPU"

    def computes(self) -> str:
        if self.arithmetic == "int8":
            floats = "bf16" if precision_hint("int8", "int8") == "bf16" else "fp32"
            return f"in int8, {floats} where not quantised" + (f", {self.ends.describe()}" if self.ends else "")
        if self.arithmetic == "fp16":
            return "in fp16, computed in fp32 with the weights rounded to fp16"
        if self.arithmetic == "bf16" and "BF16" not in capabilities():
            return "in bf16, computed in fp32 with the weights rounded to bf16, because this processor has no bf16"
        return super().computes()

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return self._bound(inputs).run()
        except (RuntimeError, TypeError, ValueError) as error:
            raise BackendUnavailable(f"OpenVINO failed on a batch of {len(inputs[0])}: {cause(error)}") from error

    def _bound(self, inputs: tuple[NDArray[Any], ...]) -> BoundRequests:
        """This thread's requests, bound to these arrays. Threads may share a compiled graph, but not a request."""
        size, compiler = len(inputs[0]), self.compiler
        if is_end := self.ends is not None and self.ends.hold(inputs[self.ends.time]):
            compiler = self.ends.compiler
        bounds: dict[tuple[int, bool], BoundRequests] = self.own.__dict__.setdefault("bounds", {})
        bound = kept(bounds, (size, is_end), lambda: self._requests(compiler, size), self.compiler.most_kept)
        bound.bind(inputs)
        return bound

    def _requests(self, compiler: Compiler, size: int) -> BoundRequests:
        compiled, num_parts = compiler.compiled(size)
        requests = [compiled.create_infer_request() for _ in range(num_parts)]
        return BoundRequests(requests, self.names, (size, *self.output_shape))

    def close(self) -> None:
        del self.own, self.compiler, self.ends


class BoundRequests:
    """Requests that read the caller's arrays and write into one array of ours, call after call.

    Args:
        requests: each of them computes an equal part of the batch; they run side by side.
        names: the names of the inputs, then that of the output.
        output_shape: (N, ...)
    """

    def __init__(self, requests: Sequence[Any], names: Sequence[str], output_shape: tuple[int, ...]) -> None:
        self.requests, self.names = requests, names
        self.inputs: tuple[NDArray[Any], ...] = ()
        self.out = np.empty(output_shape, np.float32)
        self._set(names[-1], self.out)

    def bind(self, inputs: tuple[NDArray[Any], ...]) -> None:
        """Let the requests read these arrays, unless they are bound already."""
        if len(inputs) == len(self.inputs) and all(a is b for a, b in zip(inputs, self.inputs, strict=True)):
            return
        self.inputs = ()  # until all are bound
        for name, array in zip(self.names[:-1], inputs, strict=True):
            assert array.flags.c_contiguous, f"{name} is bound by its address, so it must lie in one piece"
            self._set(name, array)
        self.inputs = inputs

    def _set(self, name: str, array: NDArray[Any]) -> None:
        import openvino

        for request, part in zip(self.requests, np.split(array, len(self.requests)), strict=True):
            request.set_tensor(name, openvino.Tensor(part, shared_memory=True))

    def run(self) -> NDArray[np.float32]:
        started: list[Any] = []
        try:
            for request in self.requests:
                request.start_async()
                started.append(request)
            for request in self.requests:
                request.wait()
        except BaseException:
            for request in started:  # none may go on to write into our array
                with suppress(RuntimeError):
                    request.wait()
            raise
        return self.out
