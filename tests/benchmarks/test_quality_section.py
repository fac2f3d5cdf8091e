"""The section of a report on quality."""

from __future__ import annotations

import pytest

from dbench.core import machine
from dbench.core.record import Result, Row
from dbench.suites import quality
from dbench.suites.quality import rows


@pytest.mark.parametrize(
    ("percent", "verdict"),
    [
        (3.02, "lie 3.02 % of the way from real to noise, within the goal of at most 10 %"),
        (23.4, "lie 23.4 % of the way from real to noise, outside the goal of at most 10 %"),
        (None, "Where the samples lie between real and noise is unknown."),
    ],
)
def test_the_verdict(percent: float | None, verdict: str) -> None:
    values = {rows.SAMPLES: 0.35, rows.HALVES: 0.0712, rows.NOISE: 9.31, rows.POSITION: percent}
    found = tuple(Row("quality", name, value, "") for name, value in values.items())
    subject = {"name": "x", "num_samples": 6, "num_real": 1797}
    result = Result(found, subject, {}, machine.fingerprint(), "dbench quality")
    markup = quality.section(result).replace("\u00a0", " ")
    assert verdict in markup
    for said in ("0.350", "0.0712", "9.31", "1,797 real digits"):
        assert said in markup
