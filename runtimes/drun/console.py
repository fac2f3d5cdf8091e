"""What every command line of the project shares: errors in one sentence, and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from drun.errors import UserError

#: Between two plain progress lines, when the output is no terminal.
PLAIN_INTERVAL_S = 15.0


def run_app(app: Callable[[], Any]) -> None:
    """Run a typer app: user errors become one line on stderr and their exit code; `--debug` shows the traceback."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except KeyboardInterrupt:
        _fail("interrupted: what was finished is kept, the same command goes on from there", 130)
    except (UserError, OSError, MemoryError) as error:
        if debug:
            raise
        message = str(error) or type(error).__name__
        _fail(message, error.exit_code if isinstance(error, UserError) else 1)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def say(message: str = "") -> None:
    """Print a line for people."""
    print(message, flush=True)  # noqa: T201


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Yield `advance(count=1, note="")`: a bar with the time left on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _plain(description, total)


@contextmanager
def _bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda count=1, note="": bar.update(task, advance=count, note=note)


def _plain(description: str, total: int) -> Callable[..., None]:
    done, start = 0, time.monotonic()
    last = start

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S:
            last = now
            left_s = (now - start) / done * (total - done)
            print(f"{description}: {done}/{total} {note} about {left_s:.0f} s left", file=sys.stderr)  # noqa: T201

    return advance
