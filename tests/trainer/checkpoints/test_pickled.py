"""What a pickle asks for, without executing it."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile

import pytest
import torch

from dtrain.checkpoints.pickled import Pickled, scan


@pytest.mark.parametrize("protocol", range(6))
def test_classes_are_named(protocol: int) -> None:
    content = [collections.deque([1]), argparse.Namespace(a=1, b="two"), {"x": (1, 2, 3, 4)}]
    found = scan(io.BytesIO(pickle.dumps(content, protocol)))
    assert found.classes >= {"collections.deque", "argparse.Namespace"}
    assert found.storages == {}


def test_storages_are_measured() -> None:
    file = io.BytesIO()
    shared = torch.zeros(7)
    torch.save({"a": shared, "b": shared[2:], "c": torch.zeros(3, dtype=torch.complex128)}, file)
    with zipfile.ZipFile(file) as archive, archive.open("archive/data.pkl") as pickled:
        assert scan(pickled).storages == {"0": 28, "1": 48}


def test_one_pickle_is_read_after_another() -> None:
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps(collections.deque()))
    assert scan(file) == Pickled(frozenset(), {})
    assert scan(file).classes == {"collections.deque"}


@pytest.mark.parametrize(
    "code",
    [
        b"", b"hello", b".", b"Q.", b"I1\nQ.", b"(Vstorage\nctorch\nFloatStorage\nVa\nVcpu\nI-1\ntQ.", b"h\x00.",
        b"(Vstorage\nctorch\nNoStorage\nVa\nVcpu\nI1\ntQ.", b"Pa\n.", b"t.", b"\x93.", b"\x8c\xffa.",
    ],
)  # fmt: skip
def test_what_is_no_pickle_of_torch_raises(code: bytes) -> None:
    with pytest.raises((ValueError, IndexError, KeyError, UnicodeDecodeError)):
        scan(io.BytesIO(code))


def test_a_huge_memo_takes_no_memory() -> None:
    assert scan(io.BytesIO(b"I1\nr\xff\xff\xff\xff.")).classes == frozenset()
