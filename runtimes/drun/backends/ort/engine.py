"""A session as an engine of a device: its inputs and its output lie at addresses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from drun.backends.ort.node_count import NodeCount
from drun.backends.ort.session import library
from drun.bundle.artifact import Artifact
from drun.errors import BackendUnavailable, reason


class SessionEngine:
    """A session on a device.

    Args:
        session: an `onnxruntime.InferenceSession` on the device's stream.
        device: its name as ONNX Runtime writes it, such as cuda.
        node_count: of the session; the first call ends its profile.
    """

    #: ONNX Runtime captures and replays a graph of CUDA by itself.
    is_capturable = False

    def __init__(self, session: Any, artifact: Artifact, device: str, node_count: NodeCount) -> None:
        self.session, self.io, self.device, self.node_count = session, artifact.io, device, node_count
        self.numbers = count(1)

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """See `drun.device.device.Engine`."""
        binding = self.session.io_binding()
        for tensor, address in zip(self.io, addresses, strict=True):
            shape = (batch, *tensor.shape[1:])
            bind = binding.bind_output if tensor is self.io[-1] else binding.bind_input
            bind(tensor.name, self.device, 0, np.dtype(tensor.dtype), shape, address)
        options = library().RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(next(self.numbers)))  # a graph keeps its addresses
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

        def call() -> None:
            try:
                self.session.run_with_iobinding(binding, options)
            except Exception as error:  # onnxruntime raises classes of its own for every cause
                raise BackendUnavailable(f"ONNX Runtime failed on a batch of {batch}: {reason(error)}") from error
            self.node_count.note(self.session)

        return call
