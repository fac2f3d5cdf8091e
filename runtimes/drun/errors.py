"""Errors that a user can act on. Each message says what is wrong, what was got and expected, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

#: Errors of the system, which have nothing to do with the content of a file.
NOT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
#: What to do about errors of the system.
OS_ADVICE = {
    errno.EMFILE: "raise the limit of open files, such as by ulimit -n 4096",
    errno.ENFILE: "the whole machine has too many files open: close some programs",
    errno.ENOSPC: "free some space; what was finished before is kept",
    errno.EDQUOT: "free some of your quota; what was finished before is kept",
    errno.ENOENT: "was it deleted while the command ran? what was finished before is kept",
    errno.ENOMEM: "lower the batch size",
    errno.ENAMETOOLONG: "choose a shorter name",
}
#: The length of the longest reason that is shown, characters.
REASON_LENGTH = 300


class UserError(Exception):
    """A mistake in the input. Commands print the message as one sentence and exit with `exit_code`."""

    exit_code = 1


class Busy(UserError):
    """Another process holds the folder that is to be written."""


class ConfigError(UserError):
    """An option, recipe or setting is wrong."""


class DataError(UserError):
    """A data file or folder is missing, empty, broken or of the wrong shape."""


class CheckpointError(UserError):
    """A checkpoint is truncated, unsafe or not recognised."""


class BundleError(UserError):
    """A bundle is damaged, incomplete or of an unknown version."""


class BackendUnavailable(UserError):
    """A runtime is not installed or cannot run here; the message holds the install line."""


class DeviceUnavailable(BackendUnavailable):
    """A runtime runs here, but not on the device that was asked for."""


class NotTrusted(UserError):
    """A file can execute code, and the user has not allowed it."""


class NotFiniteError(UserError):
    """A network gave NaN or infinity."""


class ParityError(UserError):
    """A target does not compute what eager PyTorch computed."""

    exit_code = 3


class ExportError(UserError):
    """A network cannot be exported in a form that every runtime reads."""


class Interrupted(UserError):
    """The user stopped a command, whose message says how to continue."""

    exit_code = 130


class OutOfMemory(UserError):
    """The processor or the device has too little memory; the message says what to lower."""


# ---- memory ---------------------------------------------------------------------------------------------

#: The messages of torch, ONNX Runtime and C++ about too little memory, in lower case.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",
)


@contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Turn a lack of memory, on the processor or on a device, into one sentence.

    Args:
        what: what was being done, such as "training".
        advice: what to lower, such as "lower --batch".
    """
    try:
        yield
    except OutOfMemory:
        raise
    except (MemoryError, RuntimeError, UserError) as error:
        if not _lacks_memory(error):
            raise
        raise OutOfMemory(f"{what} ran out of memory: {advice}") from error


def _lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


# ---- doors ----------------------------------------------------------------------------------------------


@contextmanager
def door(
    what: str,
    kind: type[UserError] = DataError,
    advice: str = "copy it again",
    passing: type[UserError] | None = None,
) -> Iterator[None]:
    """Turn any exception from reading or building foreign content into one sentence.

    Args:
        what: the beginning of the sentence, such as "cannot read 'labels.json'".
        kind: the error to raise.
        advice: the end of the sentence.
        passing: errors that pass unchanged; None: the errors of `kind`.
    """
    spared = passing or kind
    try:
        yield
    except spared:
        raise
    except OSError as error:
        if error.errno in NOT_OF_THE_FILE:
            raise
        raise kind(f"{what}: {reason(error)}; {advice}") from error
    except Exception as error:
        raise kind(f"{what}: {reason(error)}; {advice}") from error


def reason(error: BaseException) -> str:
    """The message of an exception, in one printable line."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
    line = printable(" ".join(text.split())).rstrip(" .")
    return (line if len(line) <= REASON_LENGTH else f"{line[:REASON_LENGTH]}…") or type(error).__name__


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey; they are shown as Python writes them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
