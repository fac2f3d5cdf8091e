"""What every command line of the project shares: errors in one sentence, and progress."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from drun.errors import OS_ADVICE, Interrupted, UserError, printable

#: Between two plain progress lines, when the output is no terminal.
PLAIN_INTERVAL_S = 15.0
#: Exit code of a command stopped by Ctrl-C; typer turns the exception into it without a word.
INTERRUPTED = 130
#: Exit code of a command stopped by SIGTERM, as shells count it.
TERMINATED = 143


def run_app(app: Callable[[], Any], extra: str | None = None) -> None:
    """Run a typer app: user errors become one line on stderr and their exit code; `--debug` shows the traceback.

    SIGTERM ends it as Ctrl-C does, so that temporary files are removed.

    Args:
        extra: of this package that holds the libraries of the app's commands, such as train.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except Interrupted as stop:
        _fail(str(stop), stop.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code not in (INTERRUPTED, TERMINATED):
            raise
        code = TERMINATED if isinstance(stop, SystemExit) and stop.code == TERMINATED else INTERRUPTED
        _fail("interrupted: the same command goes on from what was finished", code)
    except (UserError, OSError, MemoryError, ImportError) as error:
        if debug:
            raise
        _fail(_message(error, extra), error.exit_code if isinstance(error, UserError) else 1)


def _terminate(number: int, frame: object) -> None:
    sys.exit(TERMINATED)


def _message(error: Exception, extra: str | None) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in OS_ADVICE:
        name = f" at '{error.filename}'" if error.filename else ""
        return f"{error.strerror}{name}: {OS_ADVICE[error.errno]}"
    if isinstance(error, ImportError):
        from drun.extras import install_line  # here: reading metadata would make every start slower

        if line := install_line(error.name or "", extra):
            return f"this command needs {str(error.name).partition('.')[0]}: {line}"
        return f"a library cannot be loaded ({error}): install it again, or give the command more memory"
    return str(error) or "out of memory: lower the batch size"


def _fail(message: str, code: int) -> None:
    print(f"error: {_line(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def say(message: str = "") -> None:
    """Print a line for people, or several; names from files cannot command the terminal."""
    print("\n".join(printable(line) for line in message.split("\n")), flush=True)  # noqa: T201


def warn(message: str) -> None:
    """Print one line on stderr about something that works, but not as people may think."""
    print(f"warning: {_line(message)}", file=sys.stderr, flush=True)  # noqa: T201


def _line(message: str) -> str:
    return printable(" ".join(message.split()))


#: (what is being done, such as "decoding images"; how many are done; of how many; a note such as a loss)
Report = Callable[..., None]


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """A report for nobody."""


@contextmanager
def progress() -> Iterator[Report]:
    """Yield `report(what, done, total, note="")`: bars on a terminal, lines elsewhere.

    Both say how much is done, how long that took, and about how long the rest takes.
    """
    if not sys.stderr.isatty():
        yield _Lines().report
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # Where the line is too narrow for all, the end of the note is what people miss least.
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
    """A column of the time that is gone and the time that is left."""
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
    """left_s: 0 at the end, None while nobody can tell."""
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
    """A line when something begins, then one now and then, and one at the end of what took long."""

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
