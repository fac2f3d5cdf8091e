"""What is opened to be timed, and what is refused or left out by name."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbench.core.record import Result
from dbench.suites import latency
from dbench.suites.latency import Settings, measuring
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError, ConfigError
from drun.run.opening import choose
from drun.settings import RuntimeOptions


def measure(model: Any, **settings: object) -> Result:
    return latency.measure(Settings(model.bundle, **settings), silent)  # type: ignore[arg-type]


def test_another_checkpoint_is_refused(model: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(model.checkpoint.read_bytes() + b"1")
    with pytest.raises(ConfigError, match=r"is not what 'tiny' was exported from: sha256 got .*, expected .*digits-"):
        measure(model, checkpoint=other)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        measure(model, checkpoint=tmp_path / "absent.pt")


def test_a_batch_that_no_artifact_has(model: Any) -> None:
    with pytest.raises(ConfigError, match="--batch got 9, onnx-fp32 takes 1 to 8"):
        measure(model, batch=9)


def test_what_cannot_be_opened_is_left_out_by_name(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle: Bundle = model.open()
    good = choose(bundle, "ort")
    assert good.artifact is not None
    small = replace(good, artifact=replace(good.artifact, batch=(1, 1), variant="small"))
    with ExitStack() as stack:
        opened = measuring.open_all(stack, bundle, [small, good], RuntimeOptions(1), batch=2)
    assert [one.candidate for one in opened] == [good]
    expected = "warning: ort onnx-fp32-small is not timed: --batch got 2, onnx-fp32-small takes 1 to 1\n"
    assert capsys.readouterr().err == expected
    lost = replace(good, artifact=replace(good.artifact, files=(replace(good.artifact.files[0], path="lost.onnx"),)))
    with ExitStack() as stack, pytest.raises(BundleError, match=r"lost\.onnx"):
        measuring.open_all(stack, bundle, [lost, small], RuntimeOptions(1), batch=2)
