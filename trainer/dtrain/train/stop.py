"""Ctrl-C and SIGTERM while training: noticed between two steps, so that a checkpoint can be saved."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from drun.console import warn
from drun.errors import Interrupted


class Stopped(Interrupted):
    """A run that was asked to stop, after it saved a checkpoint."""

    def __init__(self, number: int, step: int, path: Path) -> None:
        super().__init__(f"stopped at step {step:,}, which is saved as '{path}'")
        self.exit_code = 128 + number


class Stop:
    """Records the first request to stop; a second one interrupts at once.

    Only the main thread receives signals, so they do not stop a run in another thread.
    """

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        return self.number != 0

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background jobs ignore Ctrl-C
                    self.before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.number = number
        warn("stopping after this step, to save it; once more stops at once")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
