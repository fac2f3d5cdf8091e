"""One network of a bundle in one format: its files, its inputs and outputs, and its tolerance against eager PyTorch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any, TypedDict

from drun.errors import BundleError

#: The smallest batch of an artifact is at most this, because fewer images are filled up to it.
MAX_SMALLEST_BATCH = 4096
#: Counts above this are damage, not models.
MAX_BATCH, MAX_WIDTH = 1 << 16, 1 << 24


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[str | int, ...]
    meaning: str


@dataclass(frozen=True)
class FileEntry:
    path: str  # relative to the bundle
    sha256: str


@dataclass(frozen=True)
class Tolerance:
    """The largest relative L2 errors that pass, and the least PSNR of a call."""

    call: float
    trajectory: float
    least_db: float = 0.0  # peak: the reference's range

    def __post_init__(self) -> None:
        if not (0 < self.call < math.inf and 0 < self.trajectory < math.inf):
            raise BundleError(f"tolerance got {self.call:g} and {self.trajectory:g}, expected finite and above 0")

    def check_ceiling(self, ceiling: Tolerance) -> None:
        """Raises BundleError if either passes what `ceiling` would not."""
        if self.call > ceiling.call or self.trajectory > ceiling.trajectory:
            raise BundleError(
                f"tolerance got {self.call:g} a call and {self.trajectory:g} a trajectory, expected at most "
                f"{ceiling.call:g} and {ceiling.trajectory:g}"
            )
        if not self.least_db >= ceiling.least_db:
            raise BundleError(f"tolerance got {self.least_db:g} dB, expected {ceiling.least_db:g} or more")


#: arithmetic -> its tolerance. A bundle cannot state a larger one.
TOLERANCES = {
    "fp32": Tolerance(1e-5, 1e-3),
    "tf32": Tolerance(2e-3, 2e-2),
    "fp16": Tolerance(1e-2, 5e-2),
    "bf16": Tolerance(6e-2, 6e-2),
    "int8": Tolerance(6e-2, 6e-2),
    # Weights in fewer bits: the gate is Apple's own for Core ML packages, in PSNR; 4 bits can lose more, and say so.
    **dict.fromkeys(("palette8", "palette6", "weights8"), Tolerance(0.3, 0.3, 35.0)),
    **dict.fromkeys(("palette4", "weights4"), Tolerance(0.3, 0.3, 25.0)),
}
#: ONNX Runtime is 1.3e-6 away at Stable Diffusion's size and 256 pixels (random weights); an 8-bit level is 4e-3.
DECODER_TOLERANCES = TOLERANCES | {"fp32": Tolerance(5e-5, 5e-5)}
#: The precisions of a graph, those that lose least first. tf32 is none: it is a way to compute an fp32 graph.
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "palette8", "weights8", "palette6", "weights4", "palette4")
#: The quantised precision: its loss depends on the network, so that it is measured and stated.
INT8 = "int8"


class _Measured(TypedDict):
    checks: int
    passed: bool
    worst: dict[str, str | int | float | None]


class _Drift(TypedDict):
    psnr_db: float | None  # of all images together, peak: the range of the float32 images; None: they are equal
    images: int
    steps: int
    sampler: str


class Loss(_Drift, total=False):
    """How far the final images are from those of the float32 graph on the same noise, drawn without guidance."""

    worst_db: float | None  # of the image that is farthest, with the peak of all


class Parity(_Measured, total=False):
    """The parity that was measured at export."""

    quick: bool  # made by `dexport --quick`: fewer calls and steps
    backend: str  # the backend that it was measured on, in words
    steps: int  # of the trajectory with the bundle's own sampler; 0: there is none
    loss: Loss  # where the target states it


#: The variant of an artifact in two graphs.
SPLIT = "split"
#: The inputs of a denoiser that hold the states and the times, and that of a split artifact's denoiser that comes from
#: its conditioning graph.
STATE, TIME, CONDITION = "x", "t", "c"
#: The key of an int8 artifact's `target` that holds the intervals of time, both ends of each included, at which the
#: float32 graph is computed that it was made of.
FP32_TIMES = "fp32_times"


@dataclass(frozen=True)
class Conditioning:
    """The first graph of a split artifact: from the time and, where there are classes, the label to a row of numbers.

    It depends on few distinct inputs, so that a walk computes it once for all of them, outside its loop.
    """

    files: tuple[str, ...]  # the paths of the artifact's files that are this graph's; the first is the one to open
    width: int  # of a row: everything that the blocks need to know of time and label
    batch: tuple[int, int]  # smallest and largest number of rows in a call
    root: str = ""  # as `Artifact.root`


#: name, dtype and shape of an input or output
Port = tuple[str, str, tuple[str | int, ...]]
#: name -> (dtype, shape behind the batch)
Io = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Artifact:
    """Identified within its bundle by format, precision and variant."""

    format: str  # onnx, ...
    precision: str  # of the graph: fp32, ...
    io: tuple[Tensor, ...]  # the inputs in order, then the output; batches are "N" in the shapes
    files: tuple[FileEntry, ...]  # the first is the one to open, unless there is a root
    batch: tuple[int, int]  # smallest and largest; equal for a static batch
    target: dict[str, Any]  # opset and the like
    producers: dict[str, str]  # library versions
    tolerance: Tolerance  # in the arithmetic of its own precision
    parity: Parity | None = None  # None: it could not be proven where it was made
    variant: str = ""  # a CoreML unit, or split
    root: str = ""  # the folder to open, relative to the bundle, where the artifact is one
    derived_from: str | None = None  # sha256 of the first file of the artifact that it was derived from, if any
    conditioning: Conditioning | None = None  # of a split artifact; its `io` are the inputs and the output of the pair

    def __post_init__(self) -> None:
        _check_batch(*self.batch)
        if not self.files:
            raise BundleError(f"the {self.format} artifact has no files, expected one at least")
        if self.precision not in PRECISIONS:
            raise BundleError(f"precision got '{self.precision}', expected one of {', '.join(PRECISIONS)}")
        if self.derived_from is not None and not re.fullmatch("[0-9a-f]{64}", self.derived_from):
            raise BundleError(f"artifact {self.id}: derived_from got '{self.derived_from:.80}', expected a sha256")
        for entry in self.files:
            path = PurePosixPath(entry.path)
            # In one spelling, as the file is copied to this path when another artifact is added.
            if path.is_absolute() or ".." in path.parts or not path.parts or path.as_posix() != entry.path:
                raise BundleError(
                    f"the artifact {self.id} has the file {entry.path!r:.80}, expected a path within the bundle, such "
                    "as a/b.onnx"
                )
        self._check_root(self.root, [entry.path for entry in self._own_files()])
        if self.conditioning is not None:
            self._check_conditioning(self.conditioning)

    def _check_root(self, root: str, paths: Iterable[str]) -> None:
        for path in paths if root else ():
            if PurePosixPath(root) not in PurePosixPath(path).parents:
                raise BundleError(f"the artifact {self.id} has the file '{path}' outside its folder '{root}'")

    def _check_conditioning(self, first: Conditioning) -> None:
        listed = [entry.path for entry in self.files]
        if not first.files or len({*first.files}) != len(first.files) or not {*first.files} < {*listed}:
            expected = f"expected some of {', '.join(listed)}"
            raise BundleError(f"the conditioning of {self.id} got the files {first.files!r:.80}, {expected:.200}")
        if not 1 <= first.width <= MAX_WIDTH:
            raise BundleError(f"the conditioning of {self.id} got the width {first.width}, expected 1 to {MAX_WIDTH:,}")
        _check_batch(*first.batch)
        self._check_root(first.root, first.files)

    def _own_files(self) -> tuple[FileEntry, ...]:
        """The files without those of the conditioning graph."""
        others = self.conditioning.files if self.conditioning else ()
        return tuple(entry for entry in self.files if entry.path not in others)

    def stages(self) -> tuple[Artifact, Artifact]:
        """The two graphs of a split artifact, each as an artifact: (t[, y]) -> c in float32, then (x, c) -> out."""
        first = self.conditioning
        assert first is not None
        x, *conditions, out = self.io
        between = Tensor(CONDITION, "float32", ("N", first.width), "what the blocks need of time and label")
        files = {entry.path: entry for entry in self.files}
        own = replace(self, io=(x, between, out), files=self._own_files(), conditioning=None)
        conditioning = replace(
            self,
            precision="fp32",
            io=(*conditions, between),
            files=tuple(files[path] for path in first.files),
            batch=first.batch,
            tolerance=TOLERANCES["fp32"],
            root=first.root,
            conditioning=None,
        )
        return conditioning, own

    @property
    def id(self) -> str:
        """The identity, such as onnx-fp32 or coreml-fp16-ane."""
        return identity(self.format, self.precision, self.variant)

    def check_io(self, expected: Io) -> None:
        """Raises BundleError unless these are the inputs and the output, in this order: runtimes bind by it."""
        got: list[Port] = [(tensor.name, tensor.dtype, tensor.shape) for tensor in self.io]
        wanted: list[Port] = [(name, dtype, ("N", *sides)) for name, (dtype, sides) in expected.items()]
        for mine, model in zip_longest(got, wanted):
            if mine != model:
                raise BundleError(f"the {self.format} artifact has {_port(mine)}, the model {_port(model)}")


def identity(format: str, precision: str, variant: str = "") -> str:
    """The identity of an artifact."""
    return "-".join(part for part in (format, precision, variant) if part)


def _port(port: Port | None) -> str:
    return "no more inputs or outputs" if port is None else f"'{port[0]:.40}' as {port[1]:.40} {port[2]}"


def _check_batch(low: int, high: int) -> None:
    if not 1 <= low <= high <= MAX_BATCH or low > MAX_SMALLEST_BATCH:
        raise BundleError(f"batch got {low} to {high}, expected sizes from 1 to {MAX_BATCH:,}, the smaller first")


def check_distinct(artifacts: Iterable[Artifact]) -> None:
    """Raises BundleError if two artifacts have one identity."""
    seen = set()
    for artifact in artifacts:
        if artifact.id in seen:
            raise BundleError(f"two artifacts are {artifact.id}, expected one of each format, precision and variant")
        seen.add(artifact.id)
