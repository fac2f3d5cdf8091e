"""The user's own record of exports: private, whole after a kill or a race, and believed only where it can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drun import trust
from drun.errors import NotTrusted, UserError

DIGESTS = [f"{i:064x}" for i in range(50)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "a" / "state"))
    return tmp_path / "a" / "state"


def test_nothing_is_trusted_at_first_and_nothing_is_written(folder: Path) -> None:
    assert not trust.is_trusted(DIGESTS[0])
    assert not folder.exists()


def test_what_was_remembered_is_trusted(folder: Path) -> None:
    for digest in DIGESTS[:2]:
        trust.remember(digest, "denoiser.pt2 of a SiT")
    trust.remember(DIGESTS[0], "the same again")
    assert [trust.is_trusted(digest) for digest in DIGESTS[:3]] == [True, True, False]
    assert json.loads((folder / "exports.json").read_text())[DIGESTS[0]] == "the same again"
    assert [path.name for path in folder.iterdir()] == ["exports.json"]


def test_it_is_for_this_user_alone(folder: Path) -> None:
    old = os.umask(0)
    try:
        trust.remember(DIGESTS[0], "one")
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "exports.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["exports.json", "."])
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_record_that_others_can_write_is_not_believed(folder: Path, name: str, mode: int) -> None:
    trust.remember(DIGESTS[0], "one")
    path = folder / name
    path.chmod(mode | 0o100)
    message = r"others may write to the state folder .*chmod go-w, or set DEXPORT_STATE to another folder"
    with pytest.raises(NotTrusted, match=message):
        trust.is_trusted(DIGESTS[0])
    with pytest.raises(UserError, match=message):
        trust.remember(DIGESTS[1], "two")
    assert set(json.loads((folder / "exports.json").read_text())) == {DIGESTS[0]}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_record_of_another_user_is_not_believed(folder: Path) -> None:
    trust.remember(DIGESTS[0], "one")
    os.chown(folder / "exports.json", 12345, -1)
    with pytest.raises(NotTrusted, match=r"others may write to the state folder '.*exports.json'"):
        trust.is_trusted(DIGESTS[0])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": "b"}', b'{"%064d": 1}' % 0, b"\xff\xfe", b"[" * 100_000], ids=range(6)
)
def test_a_damaged_record_is_one_sentence(folder: Path, content: bytes) -> None:
    trust.remember(DIGESTS[0], "one")
    (folder / "exports.json").write_bytes(content)
    message = r"^cannot read the record of exports '.*exports.json': [^\n]*; remove it, and export again what you need$"
    with pytest.raises(NotTrusted, match=message):
        trust.is_trusted(DIGESTS[0])
    with pytest.raises(UserError, match=message):
        trust.remember(DIGESTS[1], "two")
    assert (folder / "exports.json").read_bytes() == content


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    folder.parent.write_text("a file")
    with pytest.raises(UserError, match=r"^cannot write the state folder '.*state': .* set DEXPORT_STATE to another"):
        trust.remember(DIGESTS[0], "one")


def test_processes_at_once_lose_nothing(folder: Path) -> None:
    code = "import sys; from drun import trust; [trust.remember(digest, 'one') for digest in sys.argv[1:]]"
    started = [subprocess.Popen([sys.executable, "-c", code, *DIGESTS[i::5]]) for i in range(5)]
    assert [process.wait(timeout=60) for process in started] == [0] * 5
    assert all(map(trust.is_trusted, DIGESTS))
