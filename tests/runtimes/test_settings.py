"""Settings of runs are checked where they are made, and their module starts fast."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from drun.errors import ConfigError
from drun.settings import RuntimeOptions, SamplingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cfg": float("inf")}, "--cfg got inf, expected a finite weight such as 1.5"),
        ({"interval": (0.0, float("nan"))}, "--interval got 0.0,nan, expected two finite times"),
        ({"state_dtype": "float16"}, "--state-dtype got 'float16', expected float32 or float64"),
        ({"uint8": "ceil"}, "--uint8 got 'ceil', expected round or floor or adm"),
    ],
)
def test_what_no_run_can_have(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SamplingSettings("ddim", {}, 50, **changes)
    assert str(error.value) == message


def test_a_hint_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"^--hint got 'speed', expected latency or throughput$"):
        RuntimeOptions(hint="speed")


def test_stating_settings_needs_no_numpy() -> None:
    code = "import sys; from drun.settings import SamplingSettings; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
