"""Protobuf messages, read from the wire format: field by field, or by a schema of dataclasses.

https://protobuf.dev/programming-guides/encoding: a message is a sequence of (field number, wire type, value).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from functools import cache, partial
from typing import Any, ClassVar, TypeVar

import numpy as np

#: Wire types, and the bytes of those with a fixed number.
VARINT, DELIMITED = 0, 2
FIXED_BYTES = {1: 8, 5: 4}
#: The deepest nesting and the most messages of a file. An object takes much more memory than its bytes.
MAX_DEPTH, MAX_MESSAGES = 64, 2_000_000

Buffer = bytes | mmap.mmap


def fields(content: Buffer, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and stop of the values of a message.

    Raises:
        ValueError: it is not a message, or is cut short.
    """
    while start < stop:
        tag, start = varint(content, start, stop)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            end = varint(content, start, stop)[1]
        elif wire == DELIMITED:
            size, start = varint(content, start, stop)
            end = start + size
        elif wire in FIXED_BYTES:
            end = start + FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {start}")
        if end > stop:
            raise ValueError(f"a field at byte {start} is cut short")
        yield number, wire, start, end
        start = end


def varint(content: Buffer, start: int, stop: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the position of the next byte. Raises ValueError."""
    if start < stop and content[start] < 0x80:  # nearly all of them, and a graph has ten thousand
        return content[start], start + 1
    value = 0
    for place, at in enumerate(range(start, min(start + 10, stop))):
        value |= (content[at] & 0x7F) << 7 * place
        if content[at] < 0x80:
            return value, at + 1
    raise ValueError(f"a number at byte {start} does not end")


# ---- schemas --------------------------------------------------------------------------------------------


class Message:
    """The base of a schema's dataclasses, whose fields are made by the functions below."""

    #: whether a field that the schema lacks is an error; otherwise it is passed over
    is_strict: ClassVar[bool] = True


M = TypeVar("M", bound=Message)


@dataclass
class _Source:
    """A file, and what is left of its limits."""

    content: bytes
    messages: int
    depth: int = MAX_DEPTH


#: (file, wire type, start and stop of a value) -> the value
_Read = Callable[[_Source, int, int, int], Any]


@dataclass(frozen=True)
class _Kind:
    """How a field is read, and what becomes of what it held before."""

    number: int
    read: _Read
    join: Callable[[Any, Any], Any]  # the value so far and the new one -> the value


def _one(_: Any, new: Any) -> Any:
    return new


def _appended(found: list[Any], new: Any) -> list[Any]:
    found.append(new)
    return found


def _extended(found: list[Any], new: list[Any]) -> list[Any]:
    found.extend(new)
    return found


def _entered(found: dict[str, Any], new: tuple[str, Any]) -> dict[str, Any]:
    found[new[0]] = new[1]
    return found


def _scalar(number: int, read: _Read, default: Any) -> Any:
    return field(default=default, metadata={"kind": _Kind(number, read, _one)})


def integer(number: int) -> Any:
    """A signed integer of at most 64 bits, or an enumeration; 0 where it is missing."""
    return _scalar(number, lambda *value: _signed(*value), 0)


def boolean(number: int) -> Any:
    return _scalar(number, lambda *value: bool(_signed(*value)), False)


def text(number: int, default: str | None = "") -> Any:
    return _scalar(number, lambda *value: _bytes(*value).decode(), default)


def raw(number: int) -> Any:
    return _scalar(number, lambda *value: _bytes(*value), b"")


def message(number: int, kind: Callable[[], type[Message]] | type[Message]) -> Any:
    """A message; None where it is missing. kind: its class, or a function that gives it where it stands below."""
    return _scalar(number, partial(_message, kind), None)


def texts(number: int) -> Any:
    read: _Read = lambda *value: _bytes(*value).decode()  # noqa: E731
    return field(default_factory=list, metadata={"kind": _Kind(number, read, _appended)})


def messages(number: int, kind: Callable[[], type[Message]] | type[Message]) -> Any:
    return field(default_factory=list, metadata={"kind": _Kind(number, partial(_message, kind), _appended)})


def table(number: int, kind: type[Message] | None) -> Any:
    """A map from text to messages or, for None, to text."""
    return field(default_factory=dict, metadata={"kind": _Kind(number, partial(_entry, kind), _entered)})


def numbers(number: int, dtype: str) -> Any:
    """A list of numbers. dtype: float32, float64, or varint for integers and booleans."""
    return field(default_factory=list, metadata={"kind": _Kind(number, partial(_numbers, dtype), _extended)})


# ---- reading by a schema --------------------------------------------------------------------------------


def decode(kind: type[M], content: bytes) -> M:
    """Read a message.

    Raises:
        ValueError: it is cut short, nested too deeply, too large, or has a field that the schema lacks.
    """
    found: M = _message(kind, _Source(content, MAX_MESSAGES), DELIMITED, 0, len(content))
    return found


def _message(kind: Any, source: _Source, wire: int, start: int, stop: int) -> Any:
    if wire != DELIMITED:
        raise ValueError(f"a number lies at byte {start}, where a message is expected")
    if not isinstance(kind, type):
        kind = kind()
    source.messages -= 1
    source.depth -= 1
    if source.depth < 0 or source.messages < 0:
        raise ValueError("it is nested too deeply" if source.depth < 0 else f"it has over {MAX_MESSAGES:,} messages")
    schema, found = _schema(kind), kind()
    for number, own, low, high in fields(source.content, start, stop):
        if number in schema:
            name, how = schema[number]
            setattr(found, name, how.join(getattr(found, name), how.read(source, own, low, high)))
        elif kind.is_strict:
            raise ValueError(f"a {kind.__name__} has the unknown field {number}")
    source.depth += 1
    return found


@cache
def _schema(kind: type[Message]) -> Mapping[int, tuple[str, _Kind]]:
    return {one.metadata["kind"].number: (one.name, one.metadata["kind"]) for one in fields_of(kind)}  # type: ignore[arg-type]


def _signed(source: _Source, wire: int, start: int, stop: int) -> int:
    if wire != VARINT:
        raise ValueError(f"no integer lies at byte {start}, where one is expected")
    value = varint(source.content, start, stop)[0] & (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _bytes(source: _Source, wire: int, start: int, stop: int) -> bytes:
    if wire != DELIMITED:
        raise ValueError(f"a number lies at byte {start}, where text is expected")
    return source.content[start:stop]


def _entry(kind: type[Message] | None, source: _Source, wire: int, start: int, stop: int) -> tuple[str, Any]:
    if wire != DELIMITED:
        raise ValueError(f"a number lies at byte {start}, where an entry is expected")
    key, found = "", "" if kind is None else None
    for number, own, low, high in fields(source.content, start, stop):
        if number == 1:
            key = _bytes(source, own, low, high).decode()
        elif number == 2:
            of_text = kind is None
            found = _bytes(source, own, low, high).decode() if of_text else _message(kind, source, own, low, high)
    return key, kind() if kind is not None and found is None else found


def _numbers(dtype: str, source: _Source, wire: int, start: int, stop: int) -> list[Any]:
    """The numbers of a list, which may be packed into one value or come one by one."""
    found: list[Any] = []
    if dtype != "varint":
        found += np.frombuffer(source.content[start:stop], np.dtype(dtype).newbyteorder("<")).tolist()
        return found
    if wire == VARINT:
        return [_signed(source, wire, start, stop)]
    while start < stop:
        end = varint(source.content, start, stop)[1]
        found.append(_signed(source, VARINT, start, end))
        start = end
    return found
