"""Records of a checkpoint hold for its content and the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbench.suites.repa.cached import remember
from drun.errors import UserError


def test_records_hold_for_their_content_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "net-0000001.pt"
    path.write_bytes(b"weights")
    given = iter(range(10))

    def measured(samples: int) -> int:
        return int(remember(path, "frechet", {"samples": samples}, lambda: {"number": next(given)})["number"])

    assert [measured(8), measured(8), measured(9)] == [0, 0, 1]
    path.write_bytes(b"other weights")
    assert [measured(9), measured(9)] == [2, 2]
    (tmp_path / "net-0000001.frechet.json").write_text("{")
    with pytest.raises(UserError, match="delete it and run again"):
        measured(9)
