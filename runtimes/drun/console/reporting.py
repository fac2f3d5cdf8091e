"""Progress of long work on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from drun.console.output import OUTPUT

#: Time between two plain progress lines, when the output is not a terminal.
PLAIN_INTERVAL_S = 15.0

#: (what is being done, such as "decoding images"; how many are done; of how many; a note such as a loss)
Report = Callable[..., None]


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Report to nobody: show no progress."""


@contextmanager
def progress() -> Iterator[Report]:
    """Yield `report(what, done, total, note="")`: bars on a terminal, lines elsewhere.

    Both say how much is done, how long that took, and about how long the rest takes. Under --quiet nothing is shown.
    """
    if OUTPUT.quiet:
        yield silent
        return
    if not sys.stderr.isatty():
        yield _Lines().report
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # If the line is too narrow, the end of the note is cut, because people miss it least.
    note = TextColumn("{task.fields[note]}", table_column=Column(overflow="ellipsis", no_wrap=True, ratio=2))
    bar = BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4))
    count = TextColumn("{task.completed:,}/{task.total:,}", table_column=Column(no_wrap=True, min_width=11))
    with Progress("{task.description}", bar, count, _clock(), note, console=Console(stderr=True), expand=True) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note="")
            bars.update(tasks[what], completed=done, total=total, note=note)

        yield report


def _clock() -> Any:
    """A column with the elapsed time and the time that is left."""
    from rich.progress import ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.finished:
                return Text(_clock_text(task.finished_time or 0.0, 0.0))
            return Text(_clock_text(task.elapsed or 0.0, task.time_remaining))

    return Clock(table_column=Column(no_wrap=True))


def _clock_text(gone_s: float, left_s: float | None) -> str:
    """Both times as text. left_s: 0 at the end, None while it is unknown."""
    if left_s == 0:
        return f"took {duration(gone_s)}"
    return f"{duration(gone_s)} gone" + (f", about {duration(left_s)} left" if left_s is not None else "")


def duration(seconds: float) -> str:
    """`45 s`, `7 min 11 s`, `2 h 5 min`: the two largest units that count."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Lines:
    """Plain progress: a line when something begins, one now and then, and one at the end if it took long."""

    def __init__(self) -> None:
        self.what, self.first, self.start_s, self.last_s = "", 0, 0.0, 0.0

    def report(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if what != self.what:
            self.what, self.first, self.start_s, self.last_s = what, done, now, now
            self._print(f"{what} …")
        elif done > self.first and now - (self.start_s if done == total else self.last_s) >= PLAIN_INTERVAL_S:
            self.last_s = now
            gone_s = now - self.start_s
            left_s = gone_s / (done - self.first) * (total - done)
            said = f", {note}" if note else ""
            self._print(f"{what}: {done:,}/{total:,}{said}; {_clock_text(gone_s, left_s)}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201
