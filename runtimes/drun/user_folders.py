"""Folders that belong to this user alone, so that their content is trusted: the cache, and the state."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from drun.errors import UserError


@dataclass(frozen=True)
class UserFolder:
    """A folder of the user: an environment variable names it, or else it is where the platform keeps such folders."""

    what: str  # in words
    variable: str  # the environment variable that names the folder
    xdg: str  # the variable of the XDG base directories
    usual: str  # below the home folder, where that is not set
    on_macos: str  # below the home folder

    @property
    def folder(self) -> Path:
        """The folder, which may not exist yet.

        Raises:
            UserError: nothing says where it is, or others may write there.
        """
        named = os.environ.get(self.variable)
        try:
            folder = Path(named).absolute() if named else self._platform_folder() / "dexport"
        except RuntimeError as error:
            raise UserError(f"there is no home folder for a {self.what}: set {self.variable} to a folder") from error
        if folder.is_dir():
            check_ours(folder, folder.stat(), self)
        return folder

    def _platform_folder(self) -> Path:
        if sys.platform == "darwin":
            return Path.home() / self.on_macos
        name = "LOCALAPPDATA" if os.name == "nt" else self.xdg
        return Path(os.environ.get(name) or Path.home() / self.usual)

    def make(self) -> Path:
        """The folder, made for this user alone. Raises UserError if it cannot be."""
        folder = self.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write the {self.what} '{folder}': {error.strerror}; set {self.variable} to another folder"
            ) from error
        return self.folder  # checked again, now that it is there


CACHE = UserFolder("cache", "DEXPORT_CACHE", "XDG_CACHE_HOME", ".cache", "Library/Caches")
STATE = UserFolder("state folder", "DEXPORT_STATE", "XDG_STATE_HOME", ".local/state", "Library/Application Support")


def check_ours(path: Path, status: os.stat_result, place: UserFolder) -> None:
    """Raises UserError if others may write to a file or folder of `place`."""
    if os.name == "nt":  # on systems without such permissions
        return
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(
            f"others may write to the {place.what} '{path}', whose content must be trusted: make it yours by chown and "
            f"chmod go-w, or set {place.variable} to another folder"
        )
