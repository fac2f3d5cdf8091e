"""A bundle that another process exports to while it is read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drun.bundle.reading import Bundle
from drun.errors import BundleError


def test_what_is_opened_is_the_old_bundle_or_the_new_one(bundle: Bundle, tmp_path: Path) -> None:
    def export(change: Callable[[Path], object]) -> None:
        new = shutil.copytree(bundle.path, tmp_path / "new")
        change(new)
        bundle.path.rename(tmp_path / f"old{len(list(tmp_path.iterdir()))}")
        new.rename(bundle.path)

    with bundle.using(bundle.manifest.golden) as (path,):
        export(lambda new: (new / "another").touch())
    assert path.is_file()
    again = pytest.raises(BundleError, match=r"was exported anew while it was opened: run the command again")
    with again, bundle.using(bundle.manifest.golden):
        export(lambda new: (new / "golden.npz").write_bytes(b"other"))
