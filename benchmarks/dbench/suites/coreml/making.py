"""The process that makes a package and is weighed: `python -m dbench.suites.coreml.making CHECKPOINT ...`.

All that `dexport coreml` does is in it but the golden file and its proof.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbench.core import fresh
from drun.foreign import read_json

MODULE = ("-m", __name__)
RESULT = "made.json"


@dataclass(frozen=True)
class Making:
    """What the export of a package took."""

    seconds: float
    peak_bytes: int | None  # of the whole process, with PyTorch and the network
    package_bytes: int


def made(checkpoint: Path, unit: str, precision: str, assignments: Sequence[str], folder: Path) -> Making:
    """Make a package in a process of its own. folder: an empty one, for the package."""
    peak = fresh.peak_bytes([*MODULE, str(checkpoint), unit, precision, str(folder), *assignments])
    found = read_json(folder / RESULT)
    return Making(float(found["seconds"]), peak, int(found["bytes"]))


def main(checkpoint: str, unit: str, precision: str, folder: str, *assignments: str) -> None:
    from dbench.core import networks
    from dexport.writer.create import Trained, export_pair
    from dexport.writer.staging import Order

    origin = networks.find(checkpoint, assignments, Path(folder))
    trained = Trained(origin.load(), origin.checkpoint)
    start = time.perf_counter()
    pair = export_pair(trained, Order("coreml", precision, variant=unit), Path(folder))
    seconds = time.perf_counter() - start
    sizes = [(Path(folder) / entry.path).stat().st_size for entry in pair.denoiser.files]
    Path(folder, RESULT).write_text(json.dumps({"seconds": seconds, "bytes": sum(sizes)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
