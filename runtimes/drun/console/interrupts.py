"""Interrupts that no library swallows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def heeded() -> Iterator[None]:
    """Raise an interrupt again at the end, where a library has caught it: what it went on with may be half done.

    SIGINT and SIGTERM do what they do outside of it, too.
    """
    with _noted(is_passed_on=True):
        yield


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Raise an interrupt at the end only, for libraries through which no exception may pass.

    Yields a function that says whether there was one, so that the library can be asked to stop.
    """
    with _noted(is_passed_on=False) as caught:
        yield lambda: bool(caught)


@contextmanager
def _noted(is_passed_on: bool) -> Iterator[list[int]]:
    """The signals that arrive. At the end the first one does what it does outside.

    In another thread than the main one nothing is changed, for signals do not reach it.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    known: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in known.items() if callable(handler)}

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if is_passed_on:
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if caught:
        handlers[caught[0]](caught[0], None)
