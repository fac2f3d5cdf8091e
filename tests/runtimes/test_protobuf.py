"""Protobuf's wire format, against the protobuf package, and damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from drun import protobuf
from drun.protobuf import Message, boolean, decode, integer, messages, numbers, raw, table, text, texts


@dataclass
class Leaf(Message):
    number: int = integer(1)
    is_on: bool = boolean(2)
    name: str = text(3)
    content: bytes = raw(4)
    floats: list[float] = numbers(5, "float32")
    integers: list[int] = numbers(6, "varint")


@dataclass
class Tree(Message):
    leaves: list[Leaf] = messages(1, Leaf)
    by_name: dict[str, Leaf] = table(2, Leaf)
    words: dict[str, str] = table(3, None)
    names: list[str] = texts(4)
    trees: list[Tree] = messages(5, lambda: Tree)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def chunk(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_every_kind_of_field() -> None:
    leaf = (
        varint(1 << 3) + varint(-5) + varint(2 << 3) + varint(1) + chunk(3, "grün".encode()) + chunk(4, b"\0\1")
        + chunk(5, struct.pack("<2f", 1.5, -2.0)) + varint(5 << 3 | 5) + struct.pack("<f", 3.0)
        + chunk(6, varint(300) + varint(-1)) + varint(6 << 3) + varint(7)
    )  # fmt: skip
    found = decode(Tree, chunk(1, leaf) + chunk(1, b"") + chunk(2, chunk(1, b"a") + chunk(2, leaf)) + chunk(4, b"x"))
    assert found.leaves == [Leaf(-5, True, "grün", b"\0\1", [1.5, -2.0, 3.0], [300, -1, 7]), Leaf()]
    assert found.by_name == {"a": found.leaves[0]}
    assert found.names == ["x"]
    assert decode(Tree, chunk(3, chunk(1, b"k") + chunk(2, b"v"))).words == {"k": "v"}
    assert decode(Tree, chunk(2, chunk(1, b"k"))).by_name == {"k": Leaf()}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a", "a number at byte 1 does not end"),
        (b"\x0a\x05abc", "a field at byte 2 is cut short"),
        (b"\x08", "a number at byte 1 does not end"),
        (b"\xff" * 11, "a number at byte 0 does not end"),
        (b"\x0b", "wire type 3"),
        (chunk(9, b""), "a Tree has the unknown field 9"),
        (varint(1 << 3) + varint(3), "a number lies at byte 1, where a message is expected"),
        (chunk(1, chunk(1, b"abc")), "wire type|no integer lies"),
        (chunk(1, chunk(3, b"\xff\xfe")), "utf-8"),
        (chunk(1, chunk(5, b"\0\0\0")), "buffer size"),
    ],
)
def test_damage_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Tree, data)


def test_depth_and_number_of_messages_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = b""
    for _ in range(100):
        nested = chunk(5, nested)
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(Tree, nested)
    monkeypatch.setattr(protobuf, "MAX_MESSAGES", 1000)
    with pytest.raises(ValueError, match="over 1,000 messages"):
        decode(Tree, chunk(1, b"") * 1000)
