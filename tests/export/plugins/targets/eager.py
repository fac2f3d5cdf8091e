"""Pickle the network: a target that is made of it in no time."""

from importlib.metadata import version
from pathlib import Path

from dexport.targets import Part
from drun.bundle.artifact import Artifact, FileEntry
from drun.files import sha256

PROVERS = {"fp32": "eager", "bf16": "eager"}
#: Of the outputs: other than 1 makes a wrong artifact.
GAIN = 1.0


def export(part: Part, folder: Path) -> Artifact:
    import torch

    path = folder / f"{part.stem}.eager"
    torch.save((part.network, GAIN), path)
    files = (FileEntry(path.name, sha256(path)),)
    producers = {"torch": version("torch")}
    return Artifact("eager", part.precision, part.io, files, part.batch, {}, producers, part.tolerance)
