"""Opens attempts as `drun`'s backend opens artifacts, apart from what the attempt changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core.inputs import Inputs
from dbench.suites.graphs.candidates import Attempt
from dexport.targets import Part
from drun.backends.ort.cpu import Bound
from drun.backends.ort.session import library, session_of
from drun.errors import BackendUnavailable, reason


@dataclass(frozen=True)
class OpenGraph:
    """An open attempt."""

    session: Any
    part: Part
    opening_s: float
    size_bytes: int

    def bound(self, inputs: Inputs) -> Bound:
        """The arrays, which are read and written in place, call after call."""
        shape = tuple(int(side) for side in self.part.output.shape[1:])
        return Bound(self.session, [tensor.name for tensor in self.part.io], shape, inputs)

    def call(self, bound: Bound) -> NDArray[np.float32]:
        self.session.run_with_iobinding(bound.binding)
        return bound.out


def opened(attempt: Attempt, part: Part, threads: int) -> OpenGraph:
    """Open an attempt on the processor.

    Raises:
        BackendUnavailable: ONNX Runtime cannot open it.
    """
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    attempt.adjust(options)
    start_s = time.perf_counter()
    try:
        session = session_of(attempt.path, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own for every cause
        raise BackendUnavailable(f"ONNX Runtime cannot open it: {reason(error)}") from error
    opening_s = time.perf_counter() - start_s
    return OpenGraph(session, part, opening_s, sum(file.stat().st_size for file in attempt.path.parent.iterdir()))
