"""Writes plain values as TOML."""

from __future__ import annotations

import json
import re
from typing import Any


def toml(value: Any) -> str:
    """One value: text, a number, true or false, or lists and tables of these, in one line."""
    if isinstance(value, dict):
        return f"{{ {pairs(value)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    # JSON's text, numbers and booleans are also TOML's, except that TOML does not accept the character DEL in text.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def pairs(values: dict[str, Any]) -> str:
    """`key = value, key = value`."""
    return ", ".join(f"{toml_key(key)} = {toml(value)}" for key, value in values.items())


def toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)
