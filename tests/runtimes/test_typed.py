"""Plain values become dataclasses, or a sentence that names the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from drun.typed import typed


class Inner(TypedDict):
    low: float
    high: float | None


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    inner: Inner
    sides: tuple[int, int] = (1, 1)
    names: tuple[str, ...] = ()
    either: str | int | float | None = None
    free: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    flag: bool = False


RIGHT: dict[str, Any] = {"name": "a", "count": 3, "inner": {"low": 1, "high": None}}


def test_what_is_right() -> None:
    more = {"sides": [2, 3], "names": ["x"], "either": 2, "free": {"a": [1]}, "texts": {"a": "b"}, "flag": True}
    value = RIGHT | more
    assert typed(Outer, value, "outer") == Outer(
        "a", 3, {"low": 1.0, "high": None}, (2, 3), ("x",), 2, {"a": [1]}, {"a": "b"}, True
    )
    assert type(typed(Outer, RIGHT, "outer").inner["low"]) is float
    assert typed(Outer, RIGHT | {"either": 0.5}, "outer").either == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "outer.name got 3, expected text"),
        ({"count": "3"}, "outer.count got '3', expected a whole number"),
        ({"count": True}, "outer.count got True, expected a whole number"),
        ({"count": 1.0}, "outer.count got 1.0, expected a whole number"),
        ({"count": 2**63}, "outer.count got a huge number, expected a finite number below 2^63"),
        ({"count": None}, "outer.count got None, expected a whole number"),
        ({"inner": [1]}, r"outer.inner got [1], expected dict"),
        ({"inner": {"low": 1}}, "outer.inner lacks high"),
        ({"inner": {"low": float("nan"), "high": 1}}, "outer.inner.low got nan, expected a finite number below 2^63"),
        ({"inner": {"low": 1, "high": 10**400}}, "outer.inner.high got a huge number, expected"),
        ({"inner": {"low": 1, "high": 2, "more": 3}}, "outer.inner has an unknown field 'more', expected low, high"),
        ({"sides": [1]}, "outer.sides has 1 values, expected 2"),
        ({"sides": [1, "x"]}, "outer.sides[1] got 'x', expected a whole number"),
        ({"names": "abc"}, "outer.names got 'abc', expected list"),
        ({"either": []}, "outer.either got [], expected text or a whole number or a number"),
        ({"texts": {"a": 1}}, "outer.texts.a got 1, expected text"),
        ({"flag": 1}, "outer.flag got 1, expected true or false"),
        ({"more": 1}, "outer has an unknown field 'more', expected name, count, inner"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        typed(Outer, RIGHT | change, "outer")
    assert str(error.value).startswith(message)
