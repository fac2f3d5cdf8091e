"""The fastest that was measured, in the user's own settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from drun.bundle.reading import Bundle
from drun.errors import UserError
from drun.run.opening import picks
from drun.run.opening.picks import Pick, pick_of, remember

PICK = Pick("openvino", "onnx-fp32", "bf16", "cpu", 1.5)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def other(bundle: Bundle, **changes: str) -> Bundle:
    """The bundle of another checkpoint."""
    model = replace(bundle.manifest.model, checkpoint=bundle.manifest.model.checkpoint | changes)  # type: ignore[arg-type]
    return replace(bundle, manifest=replace(bundle.manifest, model=model))


def test_a_pick_is_of_a_network_and_a_machine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_of(bundle) is None
    path = remember(bundle, PICK)
    assert path.stat().st_mode & 0o777 == 0o600
    assert pick_of(bundle) == PICK
    assert pick_of(replace(bundle, path=Path("elsewhere"), sha256="f" * 64)) == PICK  # with one more artifact
    assert pick_of(other(bundle, sha256="f" * 64)) is None
    assert pick_of(other(bundle, weights="online")) is None
    remember(bundle, replace(PICK, ms=1.0))
    assert pick_of(bundle) == replace(PICK, ms=1.0)
    monkeypatch.setattr("platform.node", lambda: "another machine")
    assert pick_of(bundle) is None


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": {"backend": "ort"}}'])
def test_a_record_that_is_none(bundle: Bundle, state: Path, content: str) -> None:
    state.mkdir(mode=0o700)
    (state / picks.RECORD).write_text(content)
    with pytest.raises(UserError, match=r"cannot read the picks '.*picks.json': .*; remove it, and type dbench"):
        pick_of(bundle)


def test_other_picks_stay(bundle: Bundle, state: Path) -> None:
    remember(bundle, PICK)
    remember(other(bundle, sha256="f" * 64), PICK)
    assert len(json.loads((state / picks.RECORD).read_text())) == 2
