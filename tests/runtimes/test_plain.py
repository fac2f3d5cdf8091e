"""What is written as JSON is read back as it was, or as null where JSON has no word for it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drun.plain import plain


@dataclass
class Part:
    path: Path
    numbers: tuple[float, ...]


@dataclass
class Whole:
    parts: list[Part]
    by_name: dict[str, Any]


def test_values_within_values() -> None:
    whole = Whole([Part(Path("a/b"), (1.5, math.nan, math.inf))], {"deep": (Part(Path("c"), ()), None, True, "text")})
    expected = {
        "parts": [{"path": "a/b", "numbers": [1.5, None, None]}],
        "by_name": {"deep": [{"path": "c", "numbers": []}, None, True, "text"]},
    }
    assert plain(whole) == expected
    assert json.loads(json.dumps(plain(whole), allow_nan=False)) == expected
