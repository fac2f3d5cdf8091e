"""Whole batches by every way to draw, their speed beside their images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import export, load_trained

from dbench.core.random_weights import write_random
from dbench.core.record import Result
from dbench.core.timing import Timing
from dbench.suites.throughput import Settings, digest, measure, papers, rows, summary
from dbench.suites.throughput.names import RowNames
from dbench.suites.throughput.rows import Times, Work
from drun.backends import ort
from drun.bundle.artifact import Tolerance
from drun.console import silent
from drun.errors import ConfigError, OutOfMemory, UserError
from dtrain import config

EAGER, COMPILED = (f"the papers' loop, {how} PyTorch in fp32" for how in ("eager", "compiled"))
ORT, OPENVINO = "drun, ort onnx-fp32", "drun, openvino onnx-fp32"


def settings_of(model: Any, **changes: Any) -> Settings:
    usual = Settings(str(model.checkpoint), model.bundle, device="cpu", precisions=("fp32",), steps=3, repeats=2)
    return replace(usual, **changes)


@pytest.fixture
def result(model: Any, without_compiler: None) -> Result:
    return measure(settings_of(model, batches=(1, 2)), silent)


def test_every_way_draws_each_batch(result: Result) -> None:
    assert result.settings["ways"] == (EAGER, COMPILED, ORT, OPENVINO)
    assert (result.settings["device"], result.settings["sampler"]) == ("cpu", "ddpm")
    for drawn in (RowNames(1, 3), RowNames(2, 3)):
        for way in result.settings["ways"]:
            speed, share, error = (result.row(name(way)) for name in (drawn.speed, drawn.share, drawn.error))
            assert speed.value is not None
            assert speed.value == pytest.approx(
                sorted(drawn.batch / seconds for seconds in speed.details["seconds"])[0] / 2
                + sorted(drawn.batch / seconds for seconds in speed.details["seconds"])[1] / 2
            )
            assert share.value is not None
            assert share.value > 0
            assert error.value is not None
            assert error.value < 1e-4
            assert error.doubt is None
        assert result.row(drawn.error(EAGER)).value == 0
        assert {row.headline for row in result.rows if row.headline} == {
            f"{way}, times as fast as {EAGER}" for way in (COMPILED, ORT, OPENVINO)
        }
    text = summary(result)
    assert "**batch 1, 3 steps**" in text
    assert f"| {OPENVINO} | " in text
    fastest = max((ORT, OPENVINO), key=lambda way: result.row(RowNames(2, 3).speed(way)).value or 0.0)
    assert f"| `tiny`, 2, 3 | {fastest.removeprefix('drun, ')} | " in digest([("tiny", result)])


def test_pytorch_alone(model: Any, without_compiler: None) -> None:
    found = measure(settings_of(model, bundle=None, precisions=("bf16",), batches=(1,)), silent)
    assert found.settings["ways"] == (
        EAGER, *(f"the papers' loop, {how} PyTorch in bf16" for how in ("eager", "compiled")),
    )  # fmt: skip
    error = found.row(RowNames(1, 3).error(found.settings["ways"][1])).value
    assert error is not None
    assert 1e-4 < error < 0.1
    assert found.subject["weights"] == "ema"


def test_other_images_make_a_speed_doubtful(
    model: Any, without_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.Runtime, "tolerance", lambda self, usual: Tolerance(1e-12, 1e-12))
    found = measure(settings_of(model, backends=("ort",), batches=(1,)), silent)
    names, doubt = RowNames(1, 3), "it draws other images: 1e-12 is allowed"
    assert [found.row(name(ORT)).doubt for name in (names.error, names.speed, names.ratio)] == [doubt] * 3
    assert not any(row.headline.startswith(ORT) for row in found.rows)
    assert "`tiny`" not in digest([("tiny", found)])


def test_a_way_that_draws_no_such_batch_is_named(
    model: Any, without_compiler: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Any, *_: Any) -> None:
        raise UserError("too large")

    monkeypatch.setattr(ort.Runtime, "walk", refuse)
    found = measure(settings_of(model, batches=(2,)), silent)
    assert f"{ORT} draws no batch of 2: too large" in capsys.readouterr().err
    assert not any(row.name.startswith(ORT) for row in found.rows)
    assert f"| {ORT} " not in summary(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precisions": ("int8",)}, "--precision got 'int8', expected one of fp32, bf16, fp16, tf32"),
        ({"precisions": ("tf32",)}, "--precision got tf32, cpu has none: use fp32, or --device cuda"),
        ({"device": "cuda"}, "this machine has no cuda device"),
        ({"cfg": 1.5}, "this model is unconditional: leave out --labels and --cfg"),
    ],
)
def test_what_cannot_be_drawn(model: Any, changes: dict[str, Any], message: str) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=message):
        measure(settings_of(model, **changes), silent)


def test_too_little_memory_is_one_sentence(model: Any, without_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(papers, "guided", exhausted)
    with pytest.raises(OutOfMemory, match=r"^drawing on cpu ran out of memory: lower --batch, or name fewer --precis"):
        measure(settings_of(model), silent)


def test_a_compiler_that_fails_ends_nothing(
    model: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(network: Any, **_: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("there is no C compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    found = measure(settings_of(model, batches=(1,)), silent)
    assert f"{COMPILED} draws no batch of 1: PyTorch failed: there is no C compiler" in capsys.readouterr().err
    assert found.row(RowNames(1, 3).speed(EAGER)).value is not None
    assert found.row(RowNames(1, 3).speed(ORT)).value is not None


def test_where_drun_opens_nothing_the_papers_loop_is_measured(
    model: Any, without_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measure(settings_of(model, precisions=("fp16",), batches=(1,)), silent)
    assert len(found.settings["ways"]) == 3
    assert "drun draws nothing: '" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds nothing that computes in fp16 on cpu: export it first"):
        measure(settings_of(model, precisions=("fp16",), backends=("ort",)), silent)


@pytest.mark.slow
def test_a_static_artifact_takes_part(model: Any, without_compiler: None, tmp_path: Path) -> None:
    export(load_trained(model.checkpoint), tmp_path / "static", batch=(2, 2))
    found = measure(settings_of(model, bundle=tmp_path / "static", batches=(2,), backends=("ort",)), silent)
    assert found.row(RowNames(2, 3).speed(ORT)).value is not None


def test_random_weights_are_called_so(model: Any, without_compiler: None, tmp_path: Path) -> None:
    size = "model.size={hidden_size=16,depth=1,num_heads=2}"
    made = write_random(config.load("digits-sit", [size]), tmp_path)
    found = measure(replace(settings_of(model, bundle=None, batches=(1,)), model=str(made)), silent)
    assert found.subject["weights"] == "random"


def test_figures_are_of_the_same_rounds() -> None:
    """Twice 100 GFLOP in 1 and 2 s beside bursts of 10 GFLOP in 0.1 and 0.05 s."""
    times = Times(
        {"usual": Timing((2000.0, 4000.0)), "ours": Timing((1000.0, 2000.0))},
        {"ours": Timing((800.0, 1600.0))},
        Timing((100.0, 50.0)),
    )
    drawn = RowNames(4, 250)
    found = {row.name: row for row in rows.speeds(times, Work(100, 10), drawn, {"ours": "doubtful"})}
    assert found[drawn.speed("ours")].value == pytest.approx(3.0)
    assert found[drawn.ratio("ours")].value == pytest.approx(2.0)
    assert found[drawn.share("ours")].value == pytest.approx((100 + 25) / 2)
    assert found[drawn.added("ours")].value == pytest.approx(25.0)
    assert found[drawn.rate].value == pytest.approx((100 + 200) / 2 / 1e12)
    assert drawn.ratio("usual") not in found
    assert [found[name("ours")].doubt for name in (drawn.speed, drawn.ratio)] == ["doubtful"] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile's own
def test_the_command(dbench: Callable[..., Any], tmp_path: Path) -> None:
    """With the real compiler, of a recipe with random weights."""
    size = "model.size={hidden_size=16,depth=1,num_heads=2}"
    run = dbench(
        "throughput", "digits-sit", "--set", size, "--device", "cpu", "--precision", "bf16", "--batch", "2",
        "--steps", 4, "--cfg", 1.8, "--interval", "0,0.7", "--repeats", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    assert run.code == 0, run.err
    assert "| the papers' loop, compiled PyTorch in bf16 | " in run.out
