"""`dbench graphs` on tiny networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.core import record
from dbench.suites import graphs

TINY = ("--set", "model.dim=8", "--set", "model.dim_mults=[1,2]", "--repeats", 6, "--threads", 1)


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_the_command(dbench: Callable[..., Any]) -> None:
    chosen = ("--candidate", "fixed-batch", "--candidate", "modulated-norm")
    done = dbench("graphs", "digits-unet", *TINY, *chosen, "--batch", "1,3", "--out", "results")
    assert done.code == 0, done.err
    assert "modulated-norm is not timed: the network has no LayerNormalization that is modulated" in done.err
    (path,) = Path("results").glob("graphs-digits-unet-*.json")
    written = json.loads(path.read_text())
    assert written == json.loads(done.out.splitlines()[-1])
    rows = {row["name"]: row for row in written["rows"]}
    assert len(rows) == len(written["rows"]) == 2 * 2 * 5
    for batch in (1, 3):
        assert rows[f"default, batch {batch}, times as fast as the default"]["value"] == 1
        assert len(rows[f"fixed-batch, batch {batch}, call"]["details"]["latencies_ms"]) == 6
        assert 0 < rows[f"fixed-batch, batch {batch}, relative L2"]["value"] < 1e-5
    assert written["settings"]["candidates"] == ["fixed-batch"]
    assert list(written["settings"]["left_out"]) == ["modulated-norm"]
    assert written["machine"]["num_threads"] == written["settings"]["threads"] == 1
    assert str(Path.cwd()) not in done.out
    markup = graphs.section(record.read(path))
    assert markup.count('<th scope="row">fixed-batch</th>') == 1
    assert "modulated-norm" in markup
    assert "| fixed-batch | " in graphs.summary(record.read(path))


def test_an_unknown_candidate(dbench: Callable[..., Any]) -> None:
    done = dbench("graphs", "digits-unet", "--candidate", "warp")
    assert done.code == 1
    assert "--candidate got 'warp', expected one of default-again, " in done.err


def test_too_few_calls_for_an_interval(dbench: Callable[..., Any]) -> None:
    assert dbench("graphs", "digits-unet", "--repeats", 5).code == 2
