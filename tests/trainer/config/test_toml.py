"""Values as TOML: what is written is read again by the standard library."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dtrain.config.toml import pairs, toml

TEXT = st.text(st.characters(codec="utf-8"), max_size=9)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


def test_it_looks_as_people_write_it() -> None:
    values = {"name": "SiT", "size": {"depth": 6}, "mults": (1, 2), "steps": 400_000, "on": True, "rate": 1e-4}
    assert pairs(values) == (
        'name = "SiT", size = { depth = 6 }, mults = [1, 2], steps = 400_000, on = true, rate = 0.0001'
    )
