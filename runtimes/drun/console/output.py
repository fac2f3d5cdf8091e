"""The output of a command: prose for people, one JSON document for programs, warnings and errors for both."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from drun.errors import printable


@dataclass
class OutputMode:
    """How the running command prints; its options --quiet, --json and --debug set it."""

    quiet: bool = False  # no prose and no progress
    json: bool = False  # one document on stdout in place of prose
    debug: bool = False  # errors show their traceback


#: The mode of this process. A command changes it only within `command_output`; libraries find it at its defaults.
OUTPUT = OutputMode()


@contextmanager
def command_output() -> Iterator[OutputMode]:
    """The mode of one command, which is forgotten when the command ends."""
    try:
        yield OUTPUT
    finally:
        vars(OUTPUT).update(vars(OutputMode()))


@contextmanager
def log_level(library: str, level: int) -> Iterator[None]:
    """Keep what a library logs below a level, such as `logging.ERROR`, from stderr.

    library: the name of its logger.
    """
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def say(message: str = "") -> None:
    """Print one or more lines for people, but not under --quiet or --json.

    Control characters are escaped, so that names from files cannot command the terminal.
    """
    if not OUTPUT.quiet:
        put(message)


def put(text: str) -> None:
    """Print the lines that a user asked for, such as a whole recipe; also under --quiet, but not under --json."""
    if not OUTPUT.json:
        print("\n".join(printable(line) for line in text.split("\n")), flush=True)  # noqa: T201


def answer(document: dict[str, Any]) -> None:
    """Print the one JSON document of a command, under --json alone.

    Args:
        document: dataclasses become objects, paths become text, and numbers that are not finite become null.
    """
    if OUTPUT.json:
        import json  # imported here because few commands need it: every start stays quick

        from drun.plain import plain

        print(json.dumps(plain(document), indent=2, allow_nan=False), flush=True)  # noqa: T201


def warn(message: str) -> None:
    """Print one line on stderr about something that works, but perhaps not as people expect."""
    print(f"warning: {_line(message)}", file=sys.stderr, flush=True)  # noqa: T201


def fail(message: str, code: int) -> NoReturn:
    """Print an error as one line on stderr, and exit with a code. Raises SystemExit."""
    print(f"error: {_line(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _line(message: str) -> str:
    return printable(" ".join(message.split()))
