"""The slices: what a GPU will run can be typed, and is rehearsed on the processor."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from dbench.campaign import plan
from dbench.campaign.slices import Slice
from dbench.suites.throughput.loops import loop_of
from drun.bundle.card import Card, StateSpace
from drun.diffusion import process as processes
from drun.errors import ConfigError
from dtrain import config, objectives

OUT = Path("out")


class Gpu:
    total_memory = 80e9


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> dict[str, plan.Scale]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: Gpu)
    return {"gpu": plan.on_gpu(), "rehearsal": plan.rehearsal()}


def parsed(one: Slice) -> dict[str, Any]:
    """The values that the command line of a slice gives to its command."""
    module, *arguments = one.command
    command: Any = get_command(import_module(f"{module}.cli").app)
    context = command.make_context(module, arguments)
    _, own, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    values: dict[str, Any] = own.make_context(own.name, rest).params
    return values


def named(scale: plan.Scale) -> dict[str, Slice]:
    return {one.name: one for one in plan.plan(scale, OUT)}


@pytest.mark.parametrize("name", ["gpu", "rehearsal"])
def test_every_slice_is_a_command_that_people_can_type(name: str, scales: dict[str, plan.Scale]) -> None:
    slices = plan.plan(scales[name], OUT)
    for one in slices:
        assert parsed(one), one.shown
        assert one.limit_s < 600
    names = [one.name for one in slices]
    assert len(set(names)) == len(names)
    for place, one in enumerate(slices):
        assert {*one.needs, *one.uses} <= set(names[:place]), one.name


def test_a_gpu_gets_what_the_goals_are_about(scales: dict[str, plan.Scale]) -> None:
    slices = named(scales["gpu"])
    for precision in ("bf16", "fp16", "tf32", "fp32"):
        for batch in (1, 8, 32, 64):
            one = slices[f"throughput-sit-xl-2-repa-{precision}-batch-{batch}"]
            values = parsed(one)
            assert (values["cfg"], values["interval"]) == (1.8, "0,0.7")
            assert (values["device"], values["precisions"], values["batches"]) == ("cuda", (precision,), str(batch))
            assert f"plan-sit-xl-2-repa-{precision}" in one.uses
    headline = slices["throughput-sit-xl-2-repa-bf16-batch-64"]
    assert parsed(headline)["steps"] == 250
    assert parsed(slices["export-sit-xl-2-repa-onnx-bf16"])["batch"] == "1..128"
    assert parsed(slices["export-aerial-128-onnx-bf16"])["batch"] == "1..8"
    assert parsed(slices["train-sit-xl-2-repa-live"])["batch"] == 256
    assert {"train-sit-xl-2-repa-cached", "train-aerial-128", "kernel"} <= set(slices)
    # What needs no GPU is kept off it, and the headline comes before all that it does not need.
    assert all(one.on_processor == name.startswith(("export", "weights")) for name, one in slices.items())
    before = [*slices][: [*slices].index("throughput-sit-xl-2-repa-bf16-batch-64")]
    assert not any("fp16" in name or "aerial" in name or name.startswith("parity") for name in before)


@pytest.mark.parametrize("name", ["gpu", "rehearsal"])
def test_the_papers_loops_take_every_model(name: str, scales: dict[str, plan.Scale]) -> None:
    for model in scales[name].models:
        recipe = config.load(model.recipe)
        process, prediction = processes.from_dict(recipe.process), objectives.prediction(recipe.objective)
        assert loop_of(Card(process, prediction, StateSpace("pixel", (1, 8, 8)))).sampler


def test_a_small_gpu_trains_in_parts(scales: dict[str, plan.Scale], monkeypatch: pytest.MonkeyPatch) -> None:
    def assignments() -> list[str]:
        return list(parsed(named(plan.on_gpu())["train-sit-xl-2-repa-live"])["assignments"])

    assert assignments() == ["train.accumulate=4"]
    monkeypatch.setattr(Gpu, "total_memory", 140e9)
    assert assignments() == []


def test_a_rehearsal_has_the_same_kinds_of_slices(scales: dict[str, plan.Scale]) -> None:
    kinds = {name: {one.split("-")[0] for one in named(scale)} for name, scale in scales.items()}
    assert kinds["gpu"] - kinds["rehearsal"] == {"plan"}


def test_without_a_gpu_only_its_bundles_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(plan.webgpu, "why_not", lambda: "there is no GPU")
    able = [name for name, one in named(plan.on_gpu()).items() if one.why_not is None]
    assert able
    assert all(name.startswith(("weights", "export")) for name in able)
    assert "finds no NVIDIA GPU here" in str(named(plan.on_gpu())["kernel"].why_not)


def test_some_slices_bring_what_they_take(scales: dict[str, plan.Scale]) -> None:
    slices = plan.plan(scales["gpu"], OUT)
    assert plan.chosen(slices, ()) == slices
    found = plan.chosen(slices, ["throughput-sit-xl-2-repa-bf16-batch-1", "kernel"])
    assert [one.name for one in found] == [
        "kernel", "weights-sit-xl-2-repa", "export-sit-xl-2-repa-onnx-fp32", "export-sit-xl-2-repa-onnx-bf16",
        "export-sit-xl-2-repa-pt2", "plan-sit-xl-2-repa-bf16", "throughput-sit-xl-2-repa-bf16-batch-1",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"--only got 'sampling\*', expected one of kernel, weights-sit-xl-2-repa, "):
        plan.chosen(slices, ["kernel", "sampling*"])
