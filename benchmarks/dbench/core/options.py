"""A suite's `Settings` declare its command: each field is an argument or an option, with the field's default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field
from typing import Any

from drun.errors import ConfigError

KEY = "option"
#: The fewest repeats of which a 95 % interval of the median can be stated: fewer can all lie on one side of the true
#: median in more than 5 of 100 measurements, 2 / 2^n.
LEAST_PAIRS = 6


@dataclass(frozen=True)
class Declared:
    """How a field is given on the command line."""

    help: str
    is_argument: bool = False
    flag: str | None = None  # None: the field's name, with two dashes
    metavar: str | None = None
    least: int | None = None  # the smallest number that is accepted
    parse: Callable[[str], Any] | None = None  # parses a field that is written as one word


def argument(help: str) -> Any:
    """A field that must be given, without a flag."""
    return field(metadata={KEY: Declared(help, is_argument=True)})


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    least: int | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A field that may be given by its flag; one whose type is a tuple may be given several times.

    Args:
        parse: turns one word, such as 0,1,2, into the field's value, or raises ConfigError.
    """
    return field(default=default, metadata={KEY: Declared(help, False, flag, metavar, least, parse)})


def declared(of: Field[Any]) -> Declared | None:
    """How a field is given on the command line; None if it is not an option."""
    found: Declared | None = of.metadata.get(KEY)
    return found


def word(of: Field[Any]) -> Any:
    """The default of a field as people would type it, or `MISSING` if it has none."""
    if of.default not in (MISSING, None) and (how := declared(of)) and how.parse:
        return ",".join(map(str, of.default))
    return of.default


def parse_batches(text: str) -> tuple[int, ...]:
    """`1,8` -> (1, 8). Raises ConfigError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--batch got '{text}', expected sizes with commas between, such as 1,8")
    return tuple(dict.fromkeys(map(int, parts)))
