"""Writes the log of a run for people and tools: JSON lines, and TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from drun.errors import UserError
from drun.files import atomic
from drun.run.images import UInt8


class Log:
    """Scalars by step, into `log.jsonl` and TensorBoard events, and pictures into these.

    A resumed run drops the entries that it will write again.

    Args:
        folder: the run's folder.
        start_step: keep lines up to here.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        _keep(self.path, start_step)
        self.file = self.path.open("a", encoding="utf-8")
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1 if start_step else None)

    def write(self, step: int, **scalars: float) -> None:
        """Raises UserError if the folder was deleted."""
        if not self.path.exists():
            raise UserError(f"'{self.path.parent}' was deleted while the run wrote to it: start the run again")
        self.file.write(json.dumps({"step": step} | scalars) + "\n")
        self.file.flush()
        for name, value in scalars.items():
            self.events.add_scalar(name, value, step)

    def picture(self, step: int, image: UInt8) -> None:
        """Log a preview, (H, W, C) uint8."""
        self.events.add_image("preview", image, step, dataformats="HWC")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.file.close()
        if self.path.exists():  # or TensorBoard's thread would not find its folder
            self.events.close()


def _keep(path: Path, start_step: int) -> None:
    """Drop the lines after a step, by a file that takes the place of the old one in one piece."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    kept = [line for line in lines if _step(line) <= start_step]
    if len(kept) < len(lines):
        with atomic(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> float:
    """The step of a line; infinity for one that was cut short when the run was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
