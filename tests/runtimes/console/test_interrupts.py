"""An interrupt that a library catches ends the work nevertheless."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from drun.console.interrupts import heeded, postponed


def strike(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # until Python sees it


def test_one_that_is_caught_is_raised_at_the_end() -> None:
    went_on = False
    with pytest.raises(KeyboardInterrupt), heeded():  # noqa: PT012
        with suppress(BaseException):
            strike()
        went_on = True
    assert went_on


def test_one_that_is_not_caught_is_raised_at_once() -> None:
    went_on = False
    with pytest.raises(KeyboardInterrupt), heeded():  # noqa: PT012
        strike()
        went_on = True
    assert not went_on


def test_one_that_is_postponed_is_raised_at_the_end_only() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), postponed() as is_interrupted:  # noqa: PT012
        seen.append(is_interrupted())
        strike()
        seen.append(is_interrupted())
    assert seen == [False, True]


def test_nothing_is_raised_where_nothing_was_postponed() -> None:
    with postponed() as is_interrupted:
        assert not is_interrupted()


def test_without_one_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with heeded():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sigterm_does_what_the_program_lets_it_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit), heeded(), suppress(BaseException):
            strike(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_is_left_alone() -> None:
    done = []

    def work() -> None:
        with heeded():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
