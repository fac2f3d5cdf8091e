"""OpenVINO IR, made of the bundle's ONNX graph, in float32 or quantised to int8."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drun.backends.openvino.graph import SUFFIXES, UNREADABLE, cause, library, model_of, shapes
from drun.bundle.artifact import INT8, Artifact, FileEntry
from drun.errors import ExportError
from drun.files import sha256

if TYPE_CHECKING:
    from dexport.targets import Source

#: precision of the graph -> the backend that proves it. An fp32 graph is computed in bf16 by a hint at run time.
PROVERS = {"fp32": "openvino", INT8: "openvino"}
SPLITS = ("fp32",)
SOURCE = "onnx"


def derive(source: Source, folder: Path) -> Artifact:
    """Write `<stem>.xml` and `<stem>.bin`, with weights in float32 or int8 and the names of the source.

    The same source gives the same bytes, of int8 on the same processor.

    Raises:
        ExportError: OpenVINO does not read the source, or cannot write; or the graph cannot be quantised.
        BackendUnavailable: OpenVINO or, for int8, NNCF cannot be loaded.
    """
    target: dict[str, Any] = {"ir": 11}
    producers = {"openvino": library().get_version().partition("-")[0]}
    model = _read(source)
    if source.precision == INT8:
        from dexport.quantisation import quantise  # here: others need not wait for what it imports

        model, own = quantise.in_int8(source.bundle, source.artifact, model, source.report)
        target |= own
        producers |= quantise.producers()
    if source.batch[0] == source.batch[1]:
        model.reshape(shapes(source.io[:-1], source.batch[0]))
    _name_by_place(model)
    paths = [folder / f"{source.stem}{suffix}" for suffix in SUFFIXES["openvino"]]
    _save(model, paths[0])
    return Artifact(
        format="openvino",
        precision=source.precision,
        io=source.io,
        files=tuple(FileEntry(path.name, sha256(path)) for path in paths),
        batch=source.batch,
        target=target,
        producers=producers,
        tolerance=source.tolerance,
        derived_from=source.artifact.files[0].sha256,
    )


def _read(source: Source) -> Any:
    try:
        model = model_of(SOURCE, [source.path])
    except UNREADABLE as error:
        raise ExportError(f"OpenVINO cannot read '{source.path}': {cause(error)}") from error
    _name_by_place(model)
    return model


def _save(model: Any, path: Path) -> None:
    try:
        library().save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        advice = "free some space, or raise the limit of file sizes"
        raise ExportError(f"OpenVINO cannot write '{path.name}': {cause(error)}; {advice}") from error


def _name_by_place(model: Any) -> None:
    """Renumber the names that OpenVINO gave, such as Add_17, because its counter runs through the whole process."""
    for place, operation in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{operation.get_type_name()}_\d+", operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
