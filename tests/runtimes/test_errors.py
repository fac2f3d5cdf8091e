"""Doors, and what is said of a lack of memory."""

from __future__ import annotations

import pytest

from drun.errors import BackendUnavailable, BundleError, OutOfMemory, door, memory_for, printable, reason


def test_a_door_names_what_why_and_what_to_do() -> None:
    with (
        pytest.raises(BundleError, match=r"^cannot read it: it lacks 'shape'; export again$"),
        door("cannot read it", BundleError, "export again"),
    ):
        raise KeyError("shape")


def test_what_is_said_already_passes() -> None:
    with pytest.raises(BundleError, match=r"^said$"), door("cannot read it", BundleError):
        raise BundleError("said")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n lines."), "two lines"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (MemoryError(), "it asks for more memory than there is"),
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (EOFError(), "EOFError"),
        (ValueError("\x1b[31mred"), "\\x1b[31mred"),
    ],
)  # fmt: skip
def test_reasons_are_one_printable_line(error: Exception, text: str) -> None:
    assert reason(error) == text


def test_a_terminal_is_not_commanded() -> None:
    assert printable("plain ä") == "plain ä"
    assert printable("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert printable("\u202e") == "\\u202e"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        BackendUnavailable("ONNX Runtime failed: Failed to allocate memory for requested buffer"),
    ],
)  # fmt: skip
def test_a_lack_of_memory_says_what_to_lower(error: Exception) -> None:
    with (
        pytest.raises(OutOfMemory, match=r"^sampling ran out of memory: lower --batch$"),
        memory_for("sampling", "lower --batch"),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), BundleError("damaged"), ValueError("x")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), memory_for("sampling", "lower --batch"):
        raise error
