"""The words of options that are written as one; `test_cli` and the suites test the commands."""

from __future__ import annotations

import pytest

from dbench.core.options import parse_batches
from drun.errors import ConfigError


def test_batches_are_written_with_commas() -> None:
    assert parse_batches("1, 8,1") == (1, 8)
    for wrong in ("", "0", "1,x", "-1"):
        with pytest.raises(ConfigError, match=r"--batch got '.*', expected sizes with commas between"):
            parse_batches(wrong)
