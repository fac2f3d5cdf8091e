"""Build a TensorRT plan of the bundle's ONNX graph, for the GPU of this machine or, with tensorrt_rtx, for RTX GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drun import trust
from drun.backends.trt import library
from drun.backends.trt.building import PlanOptions, build, capabilities
from drun.backends.trt.profiles import profiles_for
from drun.bundle.artifact import Artifact, FileEntry
from drun.device import cuda
from drun.errors import BackendUnavailable, ExportError
from drun.files import sha256
from drun.version import version_of

if TYPE_CHECKING:
    from pathlib import Path

    from dexport.targets import Source

#: precision of the graph -> the backend that proves it
PROVERS = {"fp32": "trt", "fp16": "trt", "bf16": "trt"}
SOURCE = "onnx"
#: TensorRT chooses no precisions: a plan computes in those of its graph.
SOURCE_PRECISIONS = {precision: precision for precision in PROVERS}


def derive(source: Source, folder: Path) -> Artifact:
    """Write `<stem>.plan`, and trust it from now on: see `drun.trust`.

    Raises:
        BackendUnavailable: TensorRT is not installed, or needs a GPU to build. ExportError: it builds no plan.
        UserError: the record of exports cannot be written.
    """
    gpus = _gpus()
    path, profiles = folder / f"{source.stem}.plan", profiles_for(source.batch)
    try:
        build(source.path, PlanOptions(source.io[:-1], profiles, capabilities=gpus), path, source.report)
    except BackendUnavailable as error:
        raise ExportError(str(error)) from error
    entry, module = FileEntry(path.name, sha256(path)), str(library.name())
    trust.remember(entry.sha256, f"{path.name} of {source.bundle.name}")
    return Artifact(
        format="trt",
        precision=source.precision,
        io=source.io,
        files=(entry,),
        batch=source.batch,
        target={"batches": [str(profile) for profile in profiles], "gpus": list(gpus) or [cuda.facts()["gpu"]]},
        producers={module: version_of(library.MODULES[module])},
        tolerance=source.tolerance,
        derived_from=source.artifact.files[0].sha256,
    )


def _gpus() -> tuple[str, ...]:
    """The GPUs to build for: none for this machine's own. Raises BackendUnavailable where none can be built for."""
    if (why := cuda.why_none()) is None:
        return ()
    if found := capabilities():
        return found
    raise BackendUnavailable(f"{why}, and TensorRT builds on a GPU only: pip install 'dexport[rtx]' builds without one")
