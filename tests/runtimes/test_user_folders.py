"""The folders of the user: where each platform keeps them, and believed only where others may not write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from drun.errors import UserError
from drun.user_folders import CACHE, STATE, UserFolder, check_ours


@pytest.mark.parametrize(
    ("place", "platform", "variables", "expected"),
    [
        (STATE, "linux", {}, "home/.local/state/dexport"),
        (STATE, "linux", {"XDG_STATE_HOME": "{}/xdg"}, "xdg/dexport"),
        (STATE, "linux", {"XDG_STATE_HOME": "{}/xdg", "DEXPORT_STATE": "{}/own"}, "own"),
        (STATE, "darwin", {"XDG_STATE_HOME": "{}/xdg"}, "home/Library/Application Support/dexport"),
        (CACHE, "linux", {"DEXPORT_STATE": "{}/own"}, "home/.cache/dexport"),
    ],
)
def test_where_it_lies(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: UserFolder,
    platform: str,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name in ("DEXPORT_CACHE", "DEXPORT_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "{}/home"} | variables).items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert place.folder == tmp_path / expected
    assert not place.folder.exists()
    assert place.make().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", [CACHE, STATE])
def test_a_folder_that_others_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: UserFolder) -> None:
    monkeypatch.setenv(place.variable, str(tmp_path))
    tmp_path.chmod(0o770)
    with pytest.raises(UserError, match=rf"others may write to the {place.what} .* or set {place.variable} to another"):
        place.make()
    tmp_path.chmod(0o755)
    assert place.make() == tmp_path


def test_a_file_of_another_user(tmp_path: Path) -> None:
    status = list(tmp_path.stat())
    status[4] = os.geteuid() + 1
    with pytest.raises(UserError, match=r"others may write to the state folder"):
        check_ours(tmp_path, os.stat_result(status), STATE)
