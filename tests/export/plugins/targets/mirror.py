"""Copy the ONNX graph into a folder: a target that is made of another artifact."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from dexport.targets import Source
from drun.bundle.artifact import Artifact, FileEntry
from drun.files import sha256

PROVERS = {"fp32": "mirror", "fp16": "mirror"}
SOURCE = "onnx"


def derive(source: Source, folder: Path) -> Artifact:
    _wait_for_the_test()
    root = folder / f"{source.stem}.mirror"
    (root / "data").mkdir(parents=True)
    shutil.copyfile(source.path, root / "data" / "graph.onnx")
    (root / "about.txt").write_text(source.path.name)
    paths = [root / "data" / "graph.onnx", root / "about.txt"]
    files = tuple(FileEntry(path.relative_to(folder).as_posix(), sha256(path)) for path in paths)
    return replace(
        source.artifact, format="mirror", precision=source.precision, files=files, batch=source.batch, parity=None,
        tolerance=source.tolerance, root=root.name, derived_from=source.artifact.files[0].sha256,
    )  # fmt: skip


def _wait_for_the_test() -> None:
    """Where MIRROR_GATE names a file: say that this process is here, and wait until the file is gone."""
    if gate := os.environ.get("MIRROR_GATE"):
        print("at the gate", flush=True)
        while Path(gate).exists():
            time.sleep(0.01)
