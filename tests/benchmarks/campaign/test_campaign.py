"""The command, with slices that take no time, and all of it, rehearsed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.campaign import plan
from dbench.campaign.slices import Slice


def test_the_command_says_what_became_of_each_slice(
    dbench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [
        Slice("good", ("dbench", "weights", "digits-sit", str(tmp_path / "weights")), 60),
        Slice("bad", ("dbench", "weights", "no-such-recipe", str(tmp_path / "nothing")), 60),
        Slice("absent", ("dbench", "weights"), 60, why_not="there is no GPU"),
    ]
    monkeypatch.setattr(plan, "plan", lambda scale, out: slices)
    run = dbench("gpu", tmp_path / "out", "--rehearse")
    assert run.code == 1
    good, bad, absent, counts = run.out.splitlines()
    assert good.startswith("good    done ")
    assert bad.startswith("bad     failed ")
    assert "no-such-recipe" in bad
    assert absent.endswith("0 s  there is no GPU")
    assert counts == "1 done, 1 failed, 1 left out"
    assert "1 of 3 slices failed, such as bad: '" in run.err
    assert list((tmp_path / "weights").glob("*.pt"))
    assert (tmp_path / "out" / "rehearsal" / "work" / "logs" / "bad.log").read_text().startswith("error: ")
    again = dbench("gpu", tmp_path / "out", "--rehearse", "--only", "good", "--json")
    assert again.code == 0, again.err
    assert '"status": "done"' in again.out


@pytest.mark.slow
def test_a_rehearsal(dbench: Callable[..., Any], tmp_path: Path) -> None:
    """Of a kernel, targets, their parity, images and training: each slice for itself, as on a GPU."""
    kinds = ["kernel", "parity-digits-sit-cpu", "throughput-digits-sit-bf16-batch-1", "train-digits-sit-repa-*"]
    run = dbench("gpu", tmp_path / "out", "--rehearse", *(word for kind in kinds for word in ("--only", kind)))
    assert run.code == 0, run.out + run.err
    found = {path.name.split("-")[0] for path in (tmp_path / "out" / "rehearsal").glob("*.json")}
    assert found == {"kernel", "parity", "throughput", "train"}
