"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drun import files
from drun.errors import UserError
from drun.files import atomic, atomic_folder, locked, sha256, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    """Stop with `error` in the middle of a file."""
    with atomic(path) as temporary:
        temporary.write_text("half")
        raise error


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with atomic(folder / "b.txt") as temporary:
        temporary.write_text("new")
        assert temporary.parent == folder  # the same disk, so that the rename is atomic
        assert names(folder) == [temporary.name]
    assert names(folder) == ["b.txt"]
    assert (folder / "b.txt").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "b.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error())
    assert names(tmp_path) == ["b.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_a_user_error(tmp_path: Path) -> None:
    message = r"cannot write '.*b.txt': No space left on device; what was finished before is kept"
    with pytest.raises(UserError, match=message):
        write_half(tmp_path / "b.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_too_few_file_handles_say_what_to_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Too many open files; raise the limit of open files, such as by ulimit -n"):
        write_half(tmp_path / "b.txt", OSError(errno.EMFILE, "Too many open files"))


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """Also for root, who may write anywhere else."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/a/b.txt': Not a directory"):
        write_json(tmp_path / "file" / "a" / "b.txt", {})


def kill_while_writing(path: Path, writer: str) -> None:
    """A process that is killed in the middle of `atomic` or `atomic_folder`."""
    code = f"""
import os, signal
from pathlib import Path
from drun.files import {writer}
with {writer}(Path({str(path)!r})) as scratch:
    (scratch / "part" if scratch.is_dir() else scratch).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL


@pytest.mark.parametrize("writer", ["atomic", "atomic_folder"])
def test_the_next_writer_sweeps_what_kills_left(tmp_path: Path, writer: str) -> None:
    kill_while_writing(tmp_path / "b", writer)
    assert [name[:3] for name in names(tmp_path)] == [".b."]
    (tmp_path / ".notes.part").touch()  # somebody else's
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == [".notes.part", "a"]


def test_a_writer_leaves_those_alone_who_still_write(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as first, atomic(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # it was renamed last
    assert names(tmp_path) == ["a"]


def test_temporary_names_cannot_be_foreseen_and_links_are_not_followed(tmp_path: Path) -> None:
    seen = set()
    for _ in range(3):
        with atomic(tmp_path / "a") as temporary:
            assert not temporary.is_symlink()
            seen.add(temporary.name)
    assert len(seen) == 3
    (tmp_path / "target").write_text("precious")
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to(tmp_path / "target")
    write_json(tmp_path / "a", {})
    assert (tmp_path / "target").read_text() == "precious"


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_json(tmp_path / "a", {})
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_takes_the_place_of_another_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    for content in ("old", "new"):
        with atomic_folder(path) as folder:
            (folder / "file").write_text(content)
    assert (path / "file").read_text() == "new"
    assert names(tmp_path) == ["bundle"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


def test_without_an_exchange_a_kill_between_two_renames_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle"
    scratch = tmp_path / ".bundle.0123456789ab.part"
    (scratch / "old").mkdir(parents=True)
    (scratch / "old" / "file").write_text("old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with atomic_folder(path) as folder:  # the next writer puts it back before it begins
        assert (path / "file").read_text() == "old"
        (folder / "file").write_text("new")
    assert (path / "file").read_text() == "new"
    assert names(tmp_path) == ["bundle"]


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="another run is writing to"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_folder_that_is_removed_while_it_is_waited_for_is_made_and_locked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lock = tmp_path / "folder", files._lock

    def removed_before(handle: int, wait: bool = False) -> bool:
        monkeypatch.setattr(files, "_lock", lock)
        folder.rmdir()
        return lock(handle, wait)

    monkeypatch.setattr(files, "_lock", removed_before)
    with locked(folder, wait=True):
        assert folder.is_dir()
        with pytest.raises(UserError, match="another run is writing to"), locked(folder):
            pass
    assert not folder.exists()


def test_a_kill_lets_go_of_a_folder(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from drun.files import locked
with locked(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with locked(tmp_path):
        pass


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
