"""`import drun` is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import drun


def test_importing_drun_is_light_and_its_names_are_there() -> None:
    code = "import sys, drun; assert 'numpy' not in sys.modules; print(drun.load.__name__, drun.Session.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["load", "Session"]
    with pytest.raises(AttributeError, match=r"module 'drun' has no attribute 'sample'"):
        drun.sample  # noqa: B018
