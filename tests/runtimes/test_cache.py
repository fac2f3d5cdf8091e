"""The user's cache: made once, checked, shared by processes, and never larger than it may be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drun import cache
from drun.errors import UserError

KEYS = [f"{i:064x}" for i in range(5)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "a" / "cache"))
    return tmp_path / "a" / "cache"


def fetch(key: str, content: bytes = b"abc", num_bytes: int = 3) -> tuple[bytes, bool]:
    """What is read, and whether it was written for it."""
    written = []

    def write(path: Path) -> None:
        path.write_bytes(content)
        written.append(path)

    return cache.fetch(key, "a.bin", f"of {key[-1]}", num_bytes, write, Path.read_bytes), bool(written)


def test_a_file_is_made_once_for_this_user_alone(folder: Path) -> None:
    assert fetch(KEYS[0]) == (b"abc", True)
    assert fetch(KEYS[0], b"other") == (b"abc", False)
    assert fetch(KEYS[1], b"other") == (b"other", True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (folder / KEYS[0]).iterdir()) == ["a.bin", "entry.json"]


@pytest.mark.parametrize("damage", ["byte", "cut", "gone", "record", "nested"])
def test_a_damaged_file_is_made_again(folder: Path, damage: str) -> None:
    fetch(KEYS[0])
    file, record = folder / KEYS[0] / "a.bin", folder / KEYS[0] / "entry.json"
    if damage in ("byte", "cut"):
        file.write_bytes(b"abd" if damage == "byte" else b"ab")
    elif damage == "gone":
        file.unlink()
    else:
        record.write_text("[" * 100_000 if damage == "nested" else "{}")
    assert fetch(KEYS[0]) == (b"abc", True)
    assert fetch(KEYS[0]) == (b"abc", False)


def test_a_failure_leaves_nothing_that_could_pass_for_the_file(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"ab")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        cache.fetch(KEYS[0], "a.bin", "", 3, fail, Path.read_bytes)
    assert list(folder.iterdir()) == []
    assert fetch(KEYS[0]) == (b"abc", True)


def test_what_was_not_used_for_longest_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "letter.txt").write_text("x" * 10_000)
    for age, key in enumerate(KEYS[:3]):
        fetch(key, b"x" * 1000)
        os.utime(folder / key, (1e9 - age, 1e9 - age))
    fetch(KEYS[1])  # used now
    monkeypatch.setattr(cache, "MAX_BYTES", 2500)
    fetch(KEYS[3], b"x" * 1000)
    assert [entry.what for entry in cache.entries()] == ["of 3", "of 1"]
    fetch(KEYS[4], b"x" * 9000)  # larger than all may be, but asked for
    assert [entry.what for entry in cache.entries()] == ["of 4"]
    assert cache.clear() > 9000
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert (folder / "mine" / "letter.txt").is_file()


def test_two_processes_make_it_once(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom drun import cache\n"
        "def write(path):\n    print('wrote', flush=True)\n    time.sleep(0.3)\n    path.write_bytes(b'abc')\n"
        f"print(cache.fetch('{KEYS[0]}', 'a.bin', '', 3, write, Path.read_bytes))\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate(timeout=60)[0] for process in started) == ["b'abc'\n", "wrote\nb'abc'\n"]


def test_an_entry_that_is_in_use_stays(folder: Path) -> None:
    def read(path: Path) -> list[bool]:
        return [cache.clear() == 0, path.is_file()]

    assert cache.fetch(KEYS[0], "a.bin", "", 1, lambda path: path.write_bytes(b"a"), read) == [True, True]


def test_an_entry_that_is_removed_can_still_be_read(folder: Path) -> None:
    with cache.fetch(KEYS[0], "a.bin", "", 1, lambda path: path.write_bytes(b"a"), Path.open) as file:
        assert cache.clear() > 0
        assert file.read() == "a"


def test_a_library_may_fill_a_folder_by_itself(folder: Path) -> None:
    place = cache.folder_of(KEYS[0], "what a library makes")
    assert (place, place.parent.stat().st_mode & 0o777) == (folder / KEYS[0], 0o700)
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "c.so").write_bytes(bytes(1000))
    assert cache.folder_of(KEYS[0], "what a library makes") == place
    (entry,) = cache.entries()
    assert (entry.what, entry.num_bytes > 1000) == ("what a library makes", True)
    assert cache.clear() == entry.num_bytes
    assert not place.exists()


# ---- where it lies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/dexport"),
        ("linux", {"XDG_CACHE_HOME": "{}/xdg"}, "xdg/dexport"),
        ("linux", {"XDG_CACHE_HOME": "{}/xdg", "DEXPORT_CACHE": "{}/own"}, "own"),
        ("darwin", {"XDG_CACHE_HOME": "{}/xdg"}, "home/Library/Caches/dexport"),
    ],
)
def test_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("DEXPORT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "{}/home"} | variables).items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache.root() == tmp_path / expected
    assert cache.entries() == []


def test_a_cache_that_others_may_write_to(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(UserError, match=r"others may write to the cache .*chmod go-w, or set DEXPORT_CACHE"):
        fetch(KEYS[0])


def test_a_cache_that_cannot_be_written(folder: Path) -> None:
    folder.parent.write_text("a file")
    with pytest.raises(UserError, match=r"cannot write the cache .*: .*; set DEXPORT_CACHE to another folder"):
        fetch(KEYS[0])


def test_a_disk_without_room(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    free = shutil.disk_usage(folder).free
    lacks = r"needs .* bytes, and .* has .* left: free .*, or set DEXPORT_CACHE"
    with pytest.raises(UserError, match=lacks):
        fetch(KEYS[0], num_bytes=2 * free + 1)
    with pytest.raises(UserError, match=lacks):
        cache.check(KEYS[0], "images.npy", 2 * free + 1)
    assert not any(folder.rglob("images.npy"))


# ---- the command ----------------------------------------------------------------------------------------


def test_the_command_lists_and_clears(drun: Callable[..., Any], folder: Path) -> None:
    fetch(KEYS[0], b"x" * 2_000_000)
    listed = drun("cache").out
    assert f"2.0 MB  used {time.strftime('%Y-%m-%d')}" in listed
    assert "of 0\n" in listed
    assert f"2.0 MB in {folder}; above 34,360 MB the entries not used for longest are removed" in listed
    document = json.loads(drun("cache", "--json").out)
    assert document["num_bytes"] == sum(entry["num_bytes"] for entry in document["entries"])
    assert [entry["what"] in listed for entry in document["entries"]] == [True] * len(document["entries"])
    assert "2.0 MB freed" in drun("cache", "--clear").out
    assert "0.0 MB in" in drun("cache").out
