"""What a pickle asks for, without executing it."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile

import pytest
import torch

from dtrain.checkpoints import pickled
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
    with zipfile.ZipFile(file) as archive, archive.open("archive/data.pkl") as inner:
        assert scan(inner).storages == {"0": 28, "1": 48}


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


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04N" + b"2\x86" * 30 + b"\x8c\x01a\x93.", b"\x80\x02(X\x07\0\0\0storageN" + b"2\x86" * 30 + b"NNNtQ.",
    ],
)  # fmt: skip
def test_parts_that_are_shared_a_billion_times_are_never_written_out(code: bytes) -> None:
    with pytest.raises(ValueError, match="it names"):
        scan(io.BytesIO(code))


@pytest.mark.parametrize("code", [b"N" * 500_000 + b"(t" * 50_000 + b".", b"(" * 200_000 + b"t" * 200_000 + b"."])
def test_many_marks_take_no_long_time(code: bytes) -> None:
    assert scan(io.BytesIO(code)).classes == frozenset()


def test_a_pickle_without_an_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_OPERATIONS", 100)
    with pytest.raises(ValueError, match="has more than 100 operations"):
        scan(io.BytesIO(b"N0" * 100 + b"N."))


def test_a_huge_memo_takes_no_memory() -> None:
    assert scan(io.BytesIO(b"I1\nr\xff\xff\xff\xff.")).classes == frozenset()
