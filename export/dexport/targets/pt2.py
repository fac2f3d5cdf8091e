"""Export the denoiser to a torch.export program, which PyTorch runs on any device, prove it, and put it in a bundle."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dexport.targets import Part
from drun import trust
from drun.bundle.artifact import Artifact, FileEntry
from drun.files import sha256

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: precision of the program -> the backend that proves it
PROVERS = {"fp32": "pt2"}


def export(part: Part, folder: Path) -> Artifact:
    """Write `<stem>.pt2`, and trust it from now on: see `drun.trust`.

    Its inputs have the order and dtypes of the part's, and the names of the network's own `forward`.

    Raises:
        UserError: the record of exports cannot be written.
    """
    import torch

    path = folder / f"{part.stem}.pt2"
    program = _program(part)
    _strip(program)
    with path.open("wb") as file:
        sink: Any = _Sink(file)
        torch.export.save(program, sink)
        if sink.error is not None:
            raise sink.error
    entry = FileEntry(path.name, sha256(path))
    trust.remember(entry.sha256, f"{path.name} of a {type(part.network).__name__}")
    return Artifact(
        format="pt2",
        precision=part.precision,
        io=part.io,
        files=(entry,),
        batch=part.batch,
        target={"kind": "torch.export"},
        producers={"torch": version("torch")},
        tolerance=part.tolerance,
    )


class _Sink(io.RawIOBase):
    """Writes to a file, and keeps the first error instead of raising it: where a write fails, PyTorch ends the process.

    error: the error after which nothing was written any more, or None.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # PyTorch goes back to the start when it is done
        return self.file.seek(offset, whence)

    def write(self, data: Any) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)


def _program(part: Part) -> ExportedProgram:
    import torch

    from dexport.tracing import dynamic_shapes, example_inputs

    example, dynamic = example_inputs(part.inputs, part.batch), dynamic_shapes(part.inputs, part.batch)
    return torch.export.export(part.network, example, dynamic_shapes=dynamic, strict=False)


def _strip(program: ExportedProgram) -> None:
    """Drop the exporter's notes: stack traces with this machine's paths, half of the file, and the example inputs."""
    for node in program.graph.nodes:
        node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    program.example_inputs = None
