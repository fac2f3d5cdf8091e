"""Images end to end: what cannot be guided is said."""

from __future__ import annotations

from typing import Any

import pytest

from dbench.suites.peers.walks import walk_rows
from drun.console import silent
from drun.run.opening import choose
from drun.settings import RuntimeOptions


def test_a_model_without_a_null_label_is_not_drawn(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = model.open()
    rows = walk_rows(bundle, {"fp32": choose(bundle, "ort")}, [], RuntimeOptions(1), 2, 1, silent)
    assert rows == []
    said = "warning: no guided image is drawn end to end: the model has no label for 'no class'\n"
    assert capsys.readouterr().err == said


def test_more_steps_than_the_model_has_are_said_before_anything_is_drawn(
    dit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walk_rows(dit.bundle, {"fp32": choose(dit.bundle, "ort")}, [], RuntimeOptions(1), 1001, 1, silent) == []
    assert "no guided image is drawn end to end: --steps got 1001, the model has 1000" in capsys.readouterr().err


def test_a_precision_without_a_peer_is_not_drawn(sit: Any) -> None:
    ours = {"fp32": choose(sit.bundle, "ort")}
    assert walk_rows(sit.bundle, ours, [], RuntimeOptions(1), 2, 1, silent) == []
