"""What a run leaves behind for people and tools: JSON lines and TensorBoard scalars."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType


class Log:
    """Scalars by step, into `log.jsonl` and TensorBoard events; a resumed run drops what it will write again.

    Args:
        folder: the run's folder.
        start_step: keep lines up to here.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() and start_step else []
        kept = [line for line in lines if _step(line) <= start_step]
        self.file = self.path.open("w")
        self.file.writelines(f"{line}\n" for line in kept)
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1 if start_step else None)

    def write(self, step: int, **scalars: float) -> None:
        self.file.write(json.dumps({"step": step} | scalars) + "\n")
        self.file.flush()
        for name, value in scalars.items():
            self.events.add_scalar(name, value, step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.file.close()
        self.events.close()


def _step(line: str) -> float:
    """The step of a line; infinity for one that was cut short when the run was killed."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
