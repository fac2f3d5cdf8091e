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
from drun.errors import ConfigError, DeviceUnavailable
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
    if module == "dbench.campaign.weights":
        return {"recipe": config.load(arguments[0]).name}
    command: Any = get_command(import_module(f"{module}.cli").app)
    context = command.make_context(module, arguments)
    _, own, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    values: dict[str, Any] = own.make_context(own.name, rest).params
    return values


@pytest.mark.parametrize("name", ["gpu", "rehearsal"])
def test_every_slice_is_a_command_that_people_can_type(name: str, scales: dict[str, plan.Scale]) -> None:
    slices = plan.plan(scales[name], OUT)
    for one in slices:
        assert parsed(one), one.shown
        assert one.limit_s < 600
    names = [one.name for one in slices]
    assert len(set(names)) == len(names)
    for place, one in enumerate(slices):
        assert set(one.needs) <= set(names[:place])


def test_a_gpu_gets_what_the_goals_are_about(scales: dict[str, plan.Scale]) -> None:
    slices = {one.name: one for one in plan.plan(scales["gpu"], OUT)}
    for precision in ("bf16", "fp16", "tf32", "fp32"):
        for batch in (1, 8, 32, 64):
            values = parsed(slices[f"throughput-sit-xl-2-repa-{precision}-batch-{batch}"])
            assert (values["steps"], values["cfg"], values["interval"]) == (250, 1.8, "0,0.7")
            assert (values["device"], values["precisions"], values["batches"]) == ("cuda", (precision,), str(batch))
    assert parsed(slices["export-sit-xl-2-repa-onnx-bf16"])["batch"] == "1..128"
    assert parsed(slices["export-aerial-128-onnx-bf16"])["batch"] == "1..8"
    assert parsed(slices["train-sit-xl-2-repa-live"])["batch"] == 256
    assert {"train-sit-xl-2-repa-cached", "train-aerial-128", "export-sit-xl-2-repa-trt-fp16", "kernel"} <= set(slices)


@pytest.mark.parametrize("name", ["gpu", "rehearsal"])
def test_the_papers_loops_take_every_model(name: str, scales: dict[str, plan.Scale]) -> None:
    for model in scales[name].models:
        recipe = config.load(model.recipe)
        process, prediction = processes.from_dict(recipe.process), objectives.prediction(recipe.objective)
        assert loop_of(Card(process, prediction, StateSpace("pixel", (1, 8, 8)))).sampler


def test_a_small_gpu_trains_in_parts(scales: dict[str, plan.Scale], monkeypatch: pytest.MonkeyPatch) -> None:
    def assignments() -> list[str]:
        slices = {one.name: one for one in plan.plan(plan.on_gpu(), OUT)}
        return list(parsed(slices["train-sit-xl-2-repa-live"])["assignments"])

    assert assignments() == ["train.accumulate=4"]
    monkeypatch.setattr(Gpu, "total_memory", 140e9)
    assert assignments() == []


def test_a_rehearsal_has_the_same_kinds_of_slices(scales: dict[str, plan.Scale]) -> None:
    kinds = {
        name: {one.name.split("-")[0] for one in plan.plan(scale, OUT) if "-trt-" not in one.name}
        for name, scale in scales.items()
    }
    assert kinds["gpu"] == kinds["rehearsal"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    with pytest.raises(DeviceUnavailable, match="finds no NVIDIA GPU here: try every slice on the processor by --rehe"):
        plan.on_gpu()


def test_some_slices_bring_what_they_need() -> None:
    slices = plan.plan(plan.rehearsal(), OUT)
    assert plan.chosen(slices, ()) == slices
    found = plan.chosen(slices, ["parity-digits-unet-cpu", "kernel"])
    assert [one.name for one in found] == [
        "kernel", "weights-digits-unet", "export-digits-unet-onnx-fp32", "parity-digits-unet-cpu",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"--only got 'sampling\*', expected one of kernel, weights-digits-sit, "):
        plan.chosen(slices, ["kernel", "sampling*"])
