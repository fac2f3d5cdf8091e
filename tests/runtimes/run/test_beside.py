"""A thread that does one job at a time beside the caller."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from drun.run.beside import Beside


def fail(text: str) -> NoReturn:
    raise OSError(text)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    before = {*threading.enumerate()}
    yield
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join()
    assert {*threading.enumerate()} <= before


def test_jobs_are_done_in_order_and_give_their_results() -> None:
    done: list[int] = []
    with Beside() as beside:
        jobs = [beside.do(lambda i=i: (done.append(i), i * i)[1]) for i in range(5)]
    assert [job.result() for job in jobs] == [0, 1, 4, 9, 16]
    assert done == [0, 1, 2, 3, 4]


def test_a_job_runs_beside_the_caller_and_the_next_one_waits_for_it() -> None:
    released, order = threading.Event(), []

    def first() -> None:
        assert released.wait(30)
        order.append("first")

    with Beside() as beside:
        beside.do(first)
        order.append("caller")
        threading.Timer(0.05, released.set).start()
        beside.do(order.append, "second")
        assert order[:2] == ["caller", "first"]
    assert order == ["caller", "first", "second"]


def test_leaving_waits_for_the_job() -> None:
    done = threading.Event()
    with Beside() as beside:
        beside.do(lambda: threading.Event().wait(0.05) or done.set())
    assert done.is_set()


def test_an_error_is_raised_by_the_next_job() -> None:
    """Which is done nevertheless."""
    done: list[str] = []

    def two_jobs() -> None:
        with Beside() as beside:
            beside.do(fail, "one")
            beside.do(done.append, "two")
            done.append("caller")

    with pytest.raises(OSError, match="one"):
        two_jobs()
    assert done == ["two"]


#: Ctrl-C goes to the main thread, so this is a process of its own.
INTERRUPTED = """
import signal, threading, time
from drun.run.beside import Beside

done, own = [], []

def first(beside):
    while not own or beside.job is own[0]:  # until the caller has handed over the second job
        time.sleep(0.001)
    time.sleep(0.05)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    time.sleep(0.05)
    done.append("first")

try:
    with Beside() as beside:
        own.append(beside.do(first, beside))
        beside.do(done.append, "second")
        done.append("caller")
except KeyboardInterrupt:
    print("interrupted", *done)
"""


def test_a_job_that_waits_is_not_lost_by_an_interruption() -> None:
    """Ctrl-C while the caller waits for the first job."""
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "interrupted first second\n"


def test_an_error_is_raised_on_leaving() -> None:
    with pytest.raises(OSError, match="last"), Beside() as beside:
        beside.do(fail, "last")


def test_an_error_is_found_between_jobs() -> None:
    released = threading.Event()

    def late() -> None:
        assert released.wait(30)
        fail("late")

    with Beside() as beside:
        beside.check()
        job = beside.do(late)
        beside.check()  # it goes on
        released.set()
        assert isinstance(job.exception(30), OSError)
        with pytest.raises(OSError, match="late"):
            beside.check()
        beside.job = None


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_caller_lets_the_job_end_and_is_the_one_that_is_raised(kind: type[BaseException]) -> None:
    raised, done = threading.Event(), []

    def late() -> None:
        assert raised.wait(30)
        done.append(True)
        fail("late")

    def stop() -> None:
        with Beside() as beside:
            beside.do(late)
            threading.Timer(0.05, raised.set).start()
            raise kind

    with pytest.raises(kind):
        stop()
    assert done == [True]
