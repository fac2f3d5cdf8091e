"""Export the denoiser to a torch.export program, which PyTorch runs on any device, prove it, and put it in a bundle."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

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
    content = io.BytesIO()  # PyTorch ends the process where it cannot write to a disk
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
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
