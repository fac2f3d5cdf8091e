"""A split artifact: two graphs of one runtime, composed to one backend."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe
from drun.bundle.artifact import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Labels
from drun.diffusion.guidance import Guidance
from drun.diffusion.table import StepTable
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

#: A table of rows may have these many bytes; of a longer walk only the next rows are in it.
TABLE_BYTES = 256 << 20
#: How many rows the conditioning graph computes in a call, if there is a choice: for these it takes about as long to
#: compute as to read its weights.
BLOCK = 32

#: model time, as the network gets it, and label, where there are labels
Key = tuple[float, int | None]


class Split(Backend):
    """Both graphs of a split artifact: (t[, y]) -> c, always in float32, and (x, c) -> out.

    Of c, a row depends on time and label alone, so it is computed once and kept for later calls and walks.

    runtime: the backend that opens both.
    """

    summary = "two graphs"
    formats = ()

    def __init__(
        self,
        runtime: type[Backend],
        bundle: Bundle,
        artifact: Artifact,
        arithmetic: str,
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> None:
        super().__init__(bundle, artifact, arithmetic)  # the runtime checks the options
        self.options = options
        first, second = artifact.stages()
        self.denoiser = runtime(bundle, second, arithmetic, options)
        self.table = ConditionTable(runtime(bundle, first, "fp32", options), first)
        self.c = np.empty((0, self.table.width), np.float32)

    @staticmethod
    def probe() -> Probe:
        return Probe(True, "it stands on another runtime")

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        x, *conditions = inputs
        if len(self.c) != len(x):
            self.c = np.empty((len(x), self.table.width), np.float32)
        self.table.fill(self.c, *conditions)
        return self.denoiser.predict(x, self.c)

    @contextmanager
    def planned(self, table: StepTable, labels: Labels | None, guidance: Guidance) -> Iterator[None]:
        own: set[int | None] = {None} if labels is None else {*labels.tolist()}
        if labels is not None and self.batched.smallest > 1:
            own.add(0)  # the label of the images that fill up a batch
        plan: dict[float, set[int | None]] = {}
        for row in table.rows:
            is_doubled = labels is not None and row.w != 1
            plan.setdefault(float(np.float32(row.t)), set(own)).update({guidance.null_label} if is_doubled else ())
        self.table.plan = plan
        try:
            yield
        finally:
            self.table.plan = {}

    def forget(self) -> None:
        """Compute the rows of c anew, as a new process would."""
        with self.lock:
            self.table.rows.clear()

    def tolerance(self, usual: Tolerance) -> Tolerance:
        return self.denoiser.tolerance(usual)

    def describe(self) -> str:
        return self.denoiser.describe()

    def computes(self) -> str:
        return self.denoiser.computes()

    def remark(self) -> str | None:
        return self.denoiser.remark()

    def findings(self) -> dict[str, Any]:
        return self.denoiser.findings()

    def close(self) -> None:
        self.denoiser.close()
        self.table.close()


class ConditionTable:
    """The rows of c, each computed when it is first needed, together with those that the walk needs after it.

    Args:
        conditioning: the opened graph (t[, y]) -> c. artifact: of this graph.
        most_bytes: of all rows that are kept. The rows of one call are kept in any case.
    """

    def __init__(self, conditioning: Backend, artifact: Artifact, most_bytes: int | None = None) -> None:
        *conditions, c = artifact.io
        self.conditioning, self.width = conditioning, int(c.shape[1])
        self.most_rows = (TABLE_BYTES if most_bytes is None else most_bytes) // (4 * self.width)
        low, high = artifact.batch
        # Always as many rows in a call, because a runtime may compute a smaller batch otherwise.
        size = min(high, max(low, BLOCK))
        self.inputs = [np.zeros(size, tensor.dtype) for tensor in conditions]
        #: time -> the labels that a walk needs at this time; the times in the order of the walk
        self.plan: Mapping[float, Collection[int | None]] = {}
        self.rows: dict[Key, NDArray[np.float32]] = {}

    def fill(self, out: NDArray[np.float32], t: NDArray[np.float32], y: Labels | None = None) -> None:
        """Write the rows of these times and labels. out: (N, width), t: (N,), y: (N,) or None."""
        labels = [None] * len(t) if y is None else y.tolist()
        keys: list[Key] = list(zip(t.tolist(), labels, strict=True))
        if not all(key in self.rows for key in keys):
            self._tabulate(keys)
        for place, key in enumerate(keys):
            out[place] = self.rows[key]

    def _tabulate(self, keys: Iterable[Key]) -> None:
        """Compute the missing rows of a call, and those of as many later steps as there is room for."""
        wanted = self._with_later(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self.rows]
        if len(self.rows) + len(missing) > self.most_rows:
            self.rows.clear()
            missing = wanted
        size = len(self.inputs[0])
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            self.rows.update(zip(part, self._computed(part), strict=True))

    def _with_later(self, wanted: dict[Key, None]) -> list[Key]:
        times = list(self.plan)
        t, _ = next(iter(wanted))
        for later in times[times.index(t) :] if t in self.plan else ():
            step = [(later, label) for label in self.plan[later] if (later, label) not in wanted]
            if len(wanted) + len(step) > self.most_rows:
                break
            wanted.update(dict.fromkeys(step))
        return list(wanted)

    def _computed(self, keys: list[Key]) -> NDArray[np.float32]:
        """(len(keys), width). keys: as many as the graph takes at most."""
        for array, values in zip(self.inputs, zip(*keys, strict=True), strict=False):
            array[: len(keys)] = values
            array[len(keys) :] = values[-1]
        return self.conditioning.predict(*self.inputs)[: len(keys)].copy()

    def close(self) -> None:
        self.rows.clear()
        self.conditioning.close()
