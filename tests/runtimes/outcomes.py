"""What commands answered."""

from __future__ import annotations

from typing import Any


def fails(result: Any, message: str, code: int = 1) -> None:
    """One clear line on stderr, and the exit code."""
    assert (result.code, result.err) == (code, f"error: {message}\n")


def refused(result: Any, *parts: str) -> None:
    """One line on stderr that holds all of `parts`, and exit code 1."""
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [part for part in parts if part not in result.err] == []
