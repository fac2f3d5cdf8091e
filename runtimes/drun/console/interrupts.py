"""Interrupts that no library swallows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def heeded() -> Iterator[None]:
    """Raise an interrupt again at the end, where a library has caught it: what it went on with may be half done.

    SIGINT and SIGTERM do what they do outside of it, too. In another thread than the main one nothing is changed, for
    signals do not reach it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    known: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in known.items() if callable(handler)}

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if caught:
        handlers[caught[0]](caught[0], None)
