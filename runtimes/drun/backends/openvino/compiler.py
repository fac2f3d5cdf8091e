"""A graph compiled for each batch that is called: fixed shapes are about 1.3 times faster than open ones."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from drun import cache
from drun.backends.openvino.graph import capabilities, core, library, read, shapes
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.errors import UserError
from drun.settings import RuntimeOptions
from drun.version import VERSION

#: (precision of the graph, arithmetic) -> the hint. One is always passed: without it OpenVINO computes in bfloat16 on
#: every processor that has it. By the hint f32 it computes a graph in bf16 as it is written, with islands in float32;
#: by bf16 they are bf16, too, and nothing is faster. The hint f16 computes in bfloat16, so none says it.
PRECISION_HINTS = {
    ("fp32", "fp32"): "f32",
    ("fp32", "bf16"): "bf16",
    ("bf16", "bf16"): "f32",
    ("fp16", "fp16"): "f32",
    ("int8", "int8"): "bf16",
}
#: How many compiled graphs are kept: for a batch, for the doubled batch of guidance, and for a run's last, smaller
#: batch.
MOST_KEPT, KEPT_BYTES = 4, 2 << 30
#: Larger graphs are compiled anew. To read a compiled one takes as long, because its weights are laid out again.
CACHED_BYTES = 32 << 20
#: The parts of a batch that are computed side by side: on two cores 1.02 to 1.06 times as fast for a SiT-S/2, and 1.2
#: times for a small U-Net.
HALVES = 2

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class Compiler:
    """An artifact's graph, compiled for each batch size that is called; the most recently used ones are kept.

    Raises:
        BackendUnavailable: OpenVINO cannot be loaded, or cannot read the graph. BundleError: a file is damaged, not
        listed, or another network than the manifest says.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, arithmetic: str, options: RuntimeOptions) -> None:
        self.artifact, self.arithmetic, self.options = artifact, arithmetic, options
        self.model, self.num_bytes = read(bundle, artifact, precision_hint(artifact.precision, arithmetic) == "bf16")
        self.most_kept = max(2, min(MOST_KEPT, KEPT_BYTES // self.num_bytes))
        self.graphs: dict[int, tuple[Any, int]] = {}
        self.lock = threading.Lock()

    def compiled(self, size: int) -> tuple[Any, int]:
        """An `openvino.CompiledModel` for one part of a batch, and the number of these parts."""
        with self.lock:
            return kept(self.graphs, size, lambda: self._opened(size), self.most_kept)

    def _opened(self, size: int) -> tuple[Any, int]:
        num_parts = 1 if self.artifact.batch[0] == self.artifact.batch[1] else self._num_parts(size)
        config = self._config(num_parts)
        if self.num_bytes > CACHED_BYTES:
            return self._compile(size // num_parts, config), num_parts
        return self._fetch(size // num_parts, config), num_parts

    def _num_parts(self, size: int) -> int:
        """Threads that compute parts of their own need not wait for each other after each operation.

        Without a hint a batch has two halves, whatever the threads, because a graph of another batch may round
        otherwise, and images should not depend on the number of threads.
        """
        most = {None: HALVES, "latency": 1, "throughput": self._num_threads()}[self.options.hint]
        return max(parts for parts in range(1, most + 1) if size % parts == 0)

    def _num_threads(self) -> int:
        return int(self.options.threads or core().get_property("CPU", "RANGE_FOR_STREAMS")[1])

    def _config(self, num_parts: int) -> dict[str, str | int | bool]:
        config: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": precision_hint(self.artifact.precision, self.arithmetic),
            "PERFORMANCE_HINT": "LATENCY" if num_parts == 1 else "THROUGHPUT",
            "NUM_STREAMS": min(num_parts, self._num_threads()),
            # Otherwise two processes with one thread each are pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        return config | ({"INFERENCE_NUM_THREADS": self.options.threads} if self.options.threads else {})

    def _compile(self, size: int, config: Mapping[str, Any]) -> Any:
        self.model.reshape(shapes(self.artifact.io[:-1], size))
        return core().compile_model(self.model, "CPU", config)

    def _fetch(self, size: int, config: Mapping[str, Any]) -> Any:
        """Read the compiled graph from the user's cache, or compile it and keep it there."""
        made: list[Any] = []

        def write(path: Path) -> None:
            made.append(self._compile(size, config))
            path.write_bytes(made[0].export_model().getvalue())

        def opened(path: Path) -> Any:
            return made[0] if made else core().import_model(path.read_bytes(), "CPU", config)

        what = f"OpenVINO, {self.artifact.id} in {self.arithmetic}, compiled for batches of {size}"
        try:
            return cache.fetch(self._key(size, config), "compiled.blob", what, 2 * self.num_bytes, write, opened)
        except (UserError, RuntimeError):  # the cache cannot be written, or OpenVINO does not take what it holds
            return made[0] if made else self._compile(size, config)

    def _key(self, size: int, config: Mapping[str, Any]) -> str:
        """The sha256 of everything that a compiled graph depends on."""
        files = [entry.sha256 for entry in self.artifact.files]
        device = core().get_property("CPU", "FULL_DEVICE_NAME"), *sorted(capabilities())
        versions = library().get_version(), VERSION
        text = json.dumps(["openvino", versions, device, files, config, size])
        return hashlib.sha256(text.encode()).hexdigest()


def precision_hint(graph: str, arithmetic: str) -> str:
    """The floats to compute a graph of this precision in; beside int8 they are fp32 where there is no bf16."""
    is_possible = arithmetic != "int8" or "BF16" in capabilities()
    return PRECISION_HINTS[graph, arithmetic] if is_possible else "f32"


def kept(graphs: dict[Key, T], key: Key, make: Callable[[], T], most: int) -> T:
    """The graph of a key, such as a batch, compiled if it is not there.

    It becomes the most recently used; the oldest ones are dropped.
    """
    value = graphs.pop(key) if key in graphs else make()
    graphs[key] = value
    while len(graphs) > most:
        del graphs[next(iter(graphs))]
    return value
