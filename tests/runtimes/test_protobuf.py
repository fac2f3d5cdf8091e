"""Protobuf's wire format, against the protobuf package, and damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from drun import protobuf
from drun.protobuf import Message, Numbers, boolean, decode, integer, messages, numbers, raw, table, text, texts


@dataclass
class Leaf(Message):
    number: int = integer(1)
    is_on: bool = boolean(2)
    name: str = text(3)
    content: bytes = raw(4)
    floats: Numbers = numbers(5, "float32")
    integers: Numbers = numbers(6, "varint")


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
    first, second = found.leaves
    assert (first.number, first.is_on, first.name, first.content, second) == (-5, True, "grün", b"\0\1", Leaf())
    assert (first.floats.array().tolist(), first.integers.array().tolist()) == ([1.5, -2.0, 3.0], [300, -1, 7])
    assert (len(first.floats), len(first.integers)) == (3, 3)
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
        (chunk(1, varint(5 << 3 | 1) + bytes(8)), "no float32 lies at byte 3, where one is expected"),
    ],
)
def test_damage_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Tree, data)


def test_depth_is_limited() -> None:
    nested = b""
    for _ in range(100):
        nested = chunk(5, nested)
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(Tree, nested)


def test_the_number_of_fields_and_of_messages_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    monkeypatch.setattr(protobuf, "MAX_MESSAGES", 500)
    assert len(decode(Tree, chunk(1, b"") * 1000).leaves) == 1000
    for one in (chunk(1, b""), chunk(4, b""), chunk(3, b"")):
        with pytest.raises(ValueError, match="it has over 1,000 fields"):
            decode(Tree, one * 1001)
    with pytest.raises(ValueError, match="it has over 500 different messages"):
        decode(Tree, b"".join(chunk(1, chunk(3, str(place).encode())) for place in range(500)))


def test_messages_of_the_same_bytes_are_one_object() -> None:
    """Only those of the same kind, and what follows one does not change it."""
    leaf = varint(1 << 3) + varint(7)
    found = decode(Tree, chunk(1, leaf) + chunk(5, chunk(1, leaf)) + chunk(1, leaf + leaf) + chunk(5, b""))
    assert found.leaves[0] is found.trees[0].leaves[0]
    assert found.leaves == [Leaf(7), Leaf(7)]
    assert found.trees[1] == Tree()
    long = chunk(3, b"x" * 200)
    first, second = decode(Tree, chunk(1, long) * 2).leaves
    assert (first, first is second) == (second, False)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_lists_of_numbers_are_counted_before_they_are_read(value: int) -> None:
    found = Numbers("varint", bytearray(varint(5) + varint(value) + varint(6)))
    assert (len(found), found.array().tolist()) == (3, [5, value, 6])
    assert (len(Numbers("varint")), Numbers("varint").array().tolist()) == (0, [])


@pytest.mark.parametrize("content", [b"\x80", b"\x01\xff", b"\x80" * 10 + b"\x01"])
def test_a_number_of_a_list_that_does_not_end_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="a number of a list does not end"):
        Numbers("varint", bytearray(content)).array()
