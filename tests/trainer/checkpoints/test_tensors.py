"""Files of tensors that are right are read; damaged ones, bombs and those that would execute something are refused."""

from __future__ import annotations

import collections
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import CheckpointError
from dtrain.checkpoints.tensors import check_tensors, read_tensors


class Malicious:
    """A pickle of this runs a command when it is loaded the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_pickle_that_asks_for_a_class_is_refused_by_name(tmp_path: Path, write: str) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"model": {"w": torch.zeros(2)}, "extra": Malicious(trace)}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["extra"]))
    with pytest.raises(CheckpointError, match=rf"asks for the class '{os.system.__module__}.system'.*nothing was exec"):
        read_tensors(path)
    assert not trace.exists()


def test_even_a_harmless_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deque.pt"
    torch.save({"queue": collections.deque([1])}, path)
    with pytest.raises(CheckpointError, match=r"asks for the class 'collections\.deque'"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"cut{suffix}"
    tensors = {"w": torch.randn(5000)}
    torch.save(tensors, path) if suffix == ".pt" else save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=rf"cut{suffix}' is damaged or not a checkpoint: .+; copy it again"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_tensors(tmp_path / "none.pt")


# ---- what is right --------------------------------------------------------------------------------------

CONTENT = {
    "w": torch.randn(5, 7), "b": torch.randn(3).bfloat16(), "i": torch.arange(4), "none": torch.zeros(0),
    "scalar": torch.tensor(2.0), "flag": torch.tensor(True), "p": torch.nn.Parameter(torch.ones(2)),
    "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "n": {"lr": 1e-3, "betas": (0.9, 0.99)},
}  # fmt: skip


@pytest.mark.parametrize("older", [False, True])
def test_both_formats_are_read(tmp_path: Path, older: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(CONTENT, tmp_path / "a.pt", _use_new_zipfile_serialization=not older)
    got = read_tensors(tmp_path / "a.pt")
    assert all(torch.equal(got[key], value) for key, value in CONTENT.items() if isinstance(value, torch.Tensor))
    assert got["n"] == CONTENT["n"]
    assert ("which has no checksums: damage cannot be detected" in capsys.readouterr().err) == older


def test_tied_and_sliced_tensors_are_fine(tmp_path: Path) -> None:
    whole = torch.randn(10, 4)
    views = {"tied": whole, "rows": whole[2:5], "turned": whole.T, "column": whole[:, 1]}
    torch.save({"whole": whole} | views, tmp_path / "a.pt")
    assert torch.equal(read_tensors(tmp_path / "a.pt")["column"], whole[:, 1])


def test_without_checksums_it_loads_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_tensors(tmp_path / "a.pt")["w"].tolist() == [1, 1, 1]
    assert "was saved without checksums" in capsys.readouterr().err


def test_the_file_that_was_checked_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though another has its name by then."""
    path, other = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save({"w": torch.ones(3)}, path)
    torch.save({"w": torch.zeros(3)}, other)
    load = torch.load

    def swapping(*arguments: Any, **options: Any) -> Any:
        other.replace(path)
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", swapping)
    assert read_tensors(path)["w"].tolist() == [1, 1, 1]


# ---- damage ---------------------------------------------------------------------------------------------


def damaged(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"is damaged or not a checkpoint: .*{message}"):
        read_tensors(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """Wherever a number lies; of the archive's own fields some say nothing of the content."""
    path, draw = tmp_path / "a.pt", random.Random(0)
    torch.save(CONTENT, path)
    content, expected = path.read_bytes(), read_tensors(path)
    found = 0
    for _ in range(300):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            got = read_tensors(path)
        except CheckpointError:
            found += 1
            continue
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[k], v) for k, v in expected.items() if isinstance(v, torch.Tensor))
    assert found > 30


def rezip(path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive anew, with right checksums."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"w": torch.arange(100.0), "v": torch.arange(50.0)}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_an_archive_that_was_packed_again_is_read(saved: Path) -> None:
    assert read_tensors(rezip(saved, lambda name, content: content))["w"][99] == 99


def test_a_compressed_archive_is_refused(saved: Path) -> None:
    damaged(rezip(saved, lambda name, content: content, zipfile.ZIP_DEFLATED), "is compressed")


def test_a_storage_that_claims_more_than_its_record_is_refused(saved: Path) -> None:
    change = lambda name, content: content[:40] if name.endswith("data/0") else content  # noqa: E731
    damaged(rezip(saved, change), r"storage '0' says that it has 400 bytes, its record has 40")


def test_a_storage_without_a_record_is_refused(saved: Path) -> None:
    damaged(rezip(saved, lambda name, content: None if name.endswith("data/1") else content), "its record has 0")


def test_another_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    damaged(tmp_path / "a.pt", "it is an archive, but not one of PyTorch's")


@pytest.mark.parametrize("older", [False, True])
def test_a_small_file_of_a_large_storage_is_refused(tmp_path: Path, older: bool) -> None:
    """Seven kilobytes that ask for 14 gigabytes."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(70_001)}, path, _use_new_zipfile_serialization=not older)
    size, huge = (70_001).to_bytes(4, "little"), (2_000_000_000).to_bytes(4, "little")
    if older:
        path.write_bytes(path.read_bytes().replace(b"J" + size, b"J" + huge)[:7000])
        damaged(path, r"say that they hold storages of 8,000,000,000")
    else:
        rezip(path, lambda name, content: content.replace(b"J" + size, b"J" + huge))
        damaged(path, r"storage '0' says that it has 8,000,000,000 bytes, its record has 280,004")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(1).expand(1_000_000_000), lambda: torch.arange(1000.0).as_strided((500, 500), (1, 1)),
        lambda: torch.arange(4000.0).expand(1000, 4000), lambda: torch.arange(12.0).as_strided((2, 3), (1, 1)),
        lambda: torch.zeros(3).to_sparse(), lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_plain_are_refused(tmp_path: Path, make: Callable[[], torch.Tensor]) -> None:
    torch.save({"w": make()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is damaged or not a checkpoint"):
        read_tensors(tmp_path / "a.pt")


def test_a_storage_that_is_used_a_thousand_times_is_refused() -> None:
    whole = torch.zeros(1 << 18)
    content = {str(i): whole for i in range(1000)}
    with pytest.raises(ValueError, match=r"its 1,048,576 bytes make tensors of 1,048,576,000"):
        check_tensors(content, 1 << 20)


@pytest.mark.parametrize("kind", [list, dict])
def test_parts_that_are_shared_a_billion_times_are_refused(tmp_path: Path, kind: type) -> None:
    """A few kilobytes that take forever to walk through."""
    part: Any = [1.0]
    for _ in range(13):
        part = [part] * 50 if kind is list else {f"k{i}": part for i in range(40)}
    torch.save({"a": part}, tmp_path / "a.pt")
    damaged(tmp_path / "a.pt", "it repeats its parts until they are")


def test_dictionaries_in_dictionaries_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    for _ in range(100):
        content = {"a": content}
    torch.save(content, tmp_path / "a.pt")
    damaged(tmp_path / "a.pt", "it is nested too deeply")


BLOB = io.BytesIO()
torch.save({"w": torch.arange(6.0), "n": {"a": [1, 2.5, "text"]}}, BLOB)
OLDER = io.BytesIO()
torch.save({"w": torch.arange(6.0)}, OLDER, _use_new_zipfile_serialization=False)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_anything_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Its pickle changed, with right checksums around it."""
    path = tmp_path_factory.getbasetemp() / "anything.pt"
    whole = data.draw(st.sampled_from([BLOB, OLDER])).getvalue()
    path.write_bytes(whole)

    def changed(content: bytes) -> bytes:
        mutable = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(mutable) - 1))
            mutable[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        return bytes(mutable)

    if whole is BLOB.getvalue():
        rezip(path, lambda name, content: changed(content) if name.endswith("data.pkl") else content)
    else:
        path.write_bytes(changed(whole))
    with suppress(CheckpointError):
        read_tensors(path)
