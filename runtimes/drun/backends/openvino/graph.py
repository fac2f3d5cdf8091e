"""The library OpenVINO, and an artifact's graph as the library reads it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from drun.backends import check_signature
from drun.backends.openvino.times import keep_times
from drun.bundle.artifact import Artifact, Tensor
from drun.bundle.onnx_files import check_external
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError, reason

#: format -> how its files' names end: OpenVINO tells the format by the name, and would open a .bin file beside it that
#: nobody hashed.
SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
#: format -> OpenVINO's name of what reads it
FRONTENDS = {"onnx": "onnx", "openvino": "ir"}
#: What it raises of damaged files, in which names may not even be text.
UNREADABLE = (RuntimeError, TypeError, ValueError)


def library() -> Any:
    """The module `openvino`, imported without its telemetry, which reports the import unless the user opted out.

    Raises:
        BackendUnavailable: it does not load.
    """
    try:
        with without_telemetry("openvino"):
            import openvino
    except ImportError as error:
        raise BackendUnavailable(f"openvino does not load: {reason(error)}; pip install 'dexport[openvino]'") from error
    return openvino


@contextmanager
def without_telemetry(library: str) -> Iterator[None]:
    """Hide OpenVINO's telemetry while a library of its family is imported for the first time: it then takes a stub."""
    is_new = library not in sys.modules
    if is_new:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if is_new and sys.modules.get("openvino_telemetry", library) is None:
            sys.modules.pop("openvino_telemetry", None)  # another thread may have done it


@cache
def core() -> Any:
    """The process's one `openvino.Core`: it holds the device.

    A second one sets the stack on which signals are handled, too. If two of these end in the order in which they began,
    the process is left with a freed one, and the next interrupt ends it with a segmentation fault (OpenVINO 2026.4).
    """
    return library().Core()


def capabilities() -> list[str]:
    """The capabilities of the processor, such as BF16."""
    found: list[str] = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def read(bundle: Bundle, artifact: Artifact, is_bf16: bool) -> tuple[Any, int]:
    """An artifact's graph as an `openvino.Model`, and the bytes of its files.

    Args:
        is_bf16: whether its floats will be computed in bfloat16.

    Raises:
        BackendUnavailable: OpenVINO cannot be loaded, or cannot read it. BundleError: as `Bundle.using`, a file is not
        listed, or it is another network than the manifest says.
    """
    with bundle.using(*artifact.files) as paths:
        _check_names(artifact, paths)
        try:
            # An ONNX graph names its other files; `check_external` made sure that the manifest lists them.
            model = model_of(artifact.format, paths[: len(SUFFIXES[artifact.format])])
            check_signature(artifact, paths[0], dict(map(_signature, [*model.inputs, *model.outputs])))
            if is_bf16:
                keep_times(model, core())
        except UNREADABLE as error:
            raise BackendUnavailable(_why_unreadable(artifact, paths[0], error)) from error
        num_bytes = sum(path.stat().st_size for path in paths)
    return model, num_bytes


def model_of(artifact_format: str, paths: Sequence[Path]) -> Any:
    """An `openvino.Model` of files of this format. Raises one of UNREADABLE if it cannot be read.

    Of what is not in this format OpenVINO would try all others that it knows, aloud, whatever the file's name.
    """
    library()
    from openvino.frontend import FrontEndManager

    if not FrontEndManager().load_by_framework(FRONTENDS[artifact_format]).supported(str(paths[0])):
        raise ValueError(f"it is damaged, or not {artifact_format}")
    return core().read_model(*paths)


def shapes(tensors: Sequence[Tensor], size: int) -> dict[str, list[int]]:
    """name -> its shape in a batch of `size`, as `openvino.Model.reshape` takes it."""
    return {tensor.name: [size if side == "N" else int(side) for side in tensor.shape] for tensor in tensors}


def _check_names(artifact: Artifact, paths: Sequence[Path]) -> None:
    expected = SUFFIXES[artifact.format]
    got = tuple(path.suffix for path in paths)
    if got[: len(expected)] != expected or (artifact.format == "openvino" and got != expected):
        raise BundleError(
            f"the artifact {artifact.id} got the files {', '.join(path.name for path in paths)}, expected "
            f"{' and '.join(expected)}: export again"
        )
    if artifact.format == "onnx":
        check_external(paths)


def _signature(port: Any) -> tuple[str, tuple[str, tuple[int | None, ...]]]:
    shape = port.partial_shape
    sides = () if shape.rank.is_dynamic else tuple(None if side.is_dynamic else side.get_length() for side in shape)
    name = port.element_type.to_string()
    return min(port.names, default=""), ({"f32": "float32", "i64": "int64"}.get(name, name), sides)


def _why_unreadable(artifact: Artifact, path: Path, error: BaseException) -> str:
    own = library().get_version().partition("-")[0]
    newer = _written_by(path) or artifact.producers.get("openvino") if path.suffix == ".xml" else None
    if newer and _numbers(newer) > _numbers(own):
        return f"'{path}' is of OpenVINO {newer:.40}, this is {own}: pip install --upgrade openvino"
    return f"OpenVINO {own} cannot open '{path}': {cause(error)}"


def _written_by(path: Path) -> str | None:
    """The version of OpenVINO that an IR names, at its end."""
    match = re.search(rb'name="OpenVINO Runtime" value="(\d{1,9}(?:\.\d{1,9}){0,9})', path.read_bytes())
    return match[1].decode() if match else None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)]


def cause(error: BaseException) -> str:
    """The last line of OpenVINO's message: the lines before it name OpenVINO's own sources."""
    return reason(RuntimeError(str(error).strip().rpartition("\n")[2]))
