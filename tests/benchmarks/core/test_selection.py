"""Which candidates a suite is pointed at: all, or those of the named backends, artifacts and arithmetics."""

from __future__ import annotations

from typing import Any

import pytest

from dbench.core.selection import select
from drun.backends import ort
from drun.errors import BackendUnavailable, ConfigError
from drun.run.opening import candidates


@pytest.fixture
def two_arithmetics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.Runtime, "arithmetics", classmethod(lambda cls, artifact, device: ("fp32", "bf16")))


def names(model: Any, *arguments: Any) -> list[str]:
    return [one.name for one in select(model.open(), *arguments)]


def test_unasked_all_that_can_open_the_bundle_are_selected(model: Any) -> None:
    assert names(model) == [one.name for one in candidates(model.open())]
    assert "ort onnx-fp32" in names(model)
    assert not any(name.startswith("null") for name in names(model))


@pytest.mark.usefixtures("two_arithmetics")
def test_each_option_keeps_what_it_names(model: Any) -> None:
    assert names(model, ["ort"]) == ["ort onnx-fp32", "ort onnx-fp32 in bf16"]
    assert names(model, ["ort", "ort", "null"]) == ["ort onnx-fp32", "ort onnx-fp32 in bf16", "null"]
    assert names(model, ["ort"], ["bf16"]) == ["ort onnx-fp32 in bf16"]
    assert names(model, ["ort"], ["bf16", "fp32"], ["onnx-fp32"]) == ["ort onnx-fp32", "ort onnx-fp32 in bf16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["abacus"],), "unknown backend 'abacus'"),
        ((["ort"], ["int8"]), "--precision got 'int8', expected one of fp32, bf16"),
        ((["ort"], [], ["onnx-int8"]), "--artifact got 'onnx-int8', expected one of onnx-fp32"),
    ],
)
@pytest.mark.usefixtures("two_arithmetics")
def test_what_no_candidate_has_is_named(model: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select(model.open(), *arguments)


def test_where_nothing_can_open_the_bundle(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drun.backends.names", lambda: ["null"])
    with pytest.raises(BackendUnavailable, match="no backend opens what"):
        select(model.open())
