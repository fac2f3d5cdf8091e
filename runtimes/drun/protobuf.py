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
from numpy.typing import NDArray

#: Wire types, and the bytes of those with a fixed number.
VARINT, DELIMITED = 0, 2
FIXED_BYTES = {1: 8, 5: 4}
MAX_VARINT_BYTES = 10
#: numbers of a list -> the wire type of one by itself
WIRES = {"varint": VARINT, "float64": 1, "float32": 5}
#: The deepest nesting, and the most fields and different messages of a file: an object takes much more memory and time
#: than its bytes. SiT-XL/2 for the Neural Engine, the largest graph here, has 160,000 fields in 53,000 such messages.
MAX_DEPTH, MAX_FIELDS, MAX_MESSAGES = 64, 1_000_000, 300_000
#: Messages of at most these many bytes that are the same are one object: a graph says the same types all over.
SHARED_BYTES = 128

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
    for place, at in enumerate(range(start, min(start + MAX_VARINT_BYTES, stop))):
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
    fields: int
    messages: int
    depth: int = MAX_DEPTH
    shared: dict[tuple[type[Message], bytes], Message] = field(default_factory=dict)

    def fields_of(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """`fields`, of which the file has a limited number."""
        for found in fields(self.content, start, stop):
            self.fields -= 1
            if self.fields < 0:
                raise ValueError(f"it has over {MAX_FIELDS:,} fields")
            yield found


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


def _extended(found: Numbers, new: bytes) -> Numbers:
    found.content += new
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
    """A list of numbers, as `Numbers`. dtype: float32, float64, or varint for integers and booleans."""
    made = partial(Numbers, dtype)
    return field(default_factory=made, metadata={"kind": _Kind(number, partial(_numbers, dtype), _extended)})


@dataclass
class Numbers:
    """Numbers as they lie in a file, which are counted before they are read.

    dtype: float32, float64, or varint.
    """

    dtype: str
    content: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        if self.dtype == "varint":
            return int(np.count_nonzero(np.frombuffer(self.content, np.uint8) < 0x80))
        return len(self.content) // np.dtype(self.dtype).itemsize

    def array(self) -> NDArray[Any]:
        """(len,) float32, float64 or int64. Raises ValueError if the last one is cut short."""
        if self.dtype == "varint":
            return _varints(np.frombuffer(self.content, np.uint8))
        return np.frombuffer(self.content, np.dtype(self.dtype).newbyteorder("<"))


def _varints(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    ends = np.flatnonzero(data < 0x80)
    starts = np.concatenate([[0], ends + 1])
    sizes = np.diff(starts)
    if starts[-1] != len(data) or sizes.max(initial=0) > MAX_VARINT_BYTES:
        raise ValueError("a number of a list does not end")
    found = np.zeros(len(ends), np.uint64)
    for place in range(sizes.max(initial=0)):
        longer = np.flatnonzero(sizes > place)
        found[longer] |= (data[starts[longer] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return found.view(np.int64)


# ---- reading by a schema --------------------------------------------------------------------------------


def decode(kind: type[M], content: bytes) -> M:
    """Read a message.

    Raises:
        ValueError: it is cut short, nested too deeply, too large, or has a field that the schema lacks.
    """
    found: M = _message(kind, _Source(content, MAX_FIELDS, MAX_MESSAGES), DELIMITED, 0, len(content))
    return found


def _message(kind: Any, source: _Source, wire: int, start: int, stop: int) -> Any:
    if wire != DELIMITED:
        raise ValueError(f"a number lies at byte {start}, where a message is expected")
    if not isinstance(kind, type):
        kind = kind()
    if stop - start > SHARED_BYTES:
        return _made(kind, source, start, stop)
    key = kind, source.content[start:stop]
    if key not in source.shared:
        source.shared[key] = _made(kind, source, start, stop)
    return source.shared[key]


def _made(kind: Any, source: _Source, start: int, stop: int) -> Any:
    source.messages -= 1
    source.depth -= 1
    if source.depth < 0 or source.messages < 0:
        raise ValueError(
            "it is nested too deeply" if source.depth < 0 else f"it has over {MAX_MESSAGES:,} different messages"
        )
    schema, found = _schema(kind), kind()
    for number, own, low, high in source.fields_of(start, stop):
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
    for number, own, low, high in source.fields_of(start, stop):
        if number == 1:
            key = _bytes(source, own, low, high).decode()
        elif number == 2:
            of_text = kind is None
            found = _bytes(source, own, low, high).decode() if of_text else _message(kind, source, own, low, high)
    return key, kind() if kind is not None and found is None else found


def _numbers(dtype: str, source: _Source, wire: int, start: int, stop: int) -> bytes:
    """Of a list, whose numbers may be packed into one value or come one by one."""
    if wire not in (DELIMITED, WIRES[dtype]):
        raise ValueError(f"no {dtype} lies at byte {start}, where one is expected")
    return source.content[start:stop]
