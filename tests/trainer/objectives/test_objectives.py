"""Objectives are found by their files and built from a recipe's options."""

from __future__ import annotations

import pytest
import torch

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from dtrain import objectives

CPU = torch.device("cpu")


def test_every_file_is_an_objective() -> None:
    assert objectives.names() == ["classify", "ddpm", "flow", "mae", "repa"]
    assert all(objectives.load(name).__module__ == f"dtrain.objectives.{name}" for name in objectives.names())
    assert list(objectives.parameters("classify")) == ["label_smoothing", "noise"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "gan"}, "unknown objective 'gan': choose one of classify, ddpm"),
        ({}, "unknown objective 'None'"),
        ({"name": "ddpm", "colour": 1}, "objective 'ddpm' has no option 'colour', expected one of prediction, loss"),
        (
            {"name": "repa", "base": {"name": "flow"}},
            r"objective 'repa' lacks objective.teachers: usually .*as in recipe",
        ),
        ({"name": "classify", "noise": 0.1, "label_smoothing": 0.1, "process": 1}, "has no option 'process'"),
    ],
)
def test_what_cannot_be_built_is_named(process: DiscreteProcess, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.build(options, process, CPU)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "ddpm"}, "noise"),
        ({"name": "ddpm", "prediction": "x0"}, "x0"),
        ({"name": "flow"}, "velocity"),
        ({"name": "flow", "prediction": "x0"}, "x0"),
        ({"name": "repa", "base": {"name": "flow", "prediction": "score"}}, "score"),
        ({"name": "repa", "base": {"name": "ddpm", "prediction": "velocity"}, "teachers": []}, "velocity"),
    ],
)
def test_what_a_network_is_trained_to_predict(options: dict[str, object], expected: str) -> None:
    assert objectives.prediction(options) == expected


def test_a_classifier_predicts_no_image() -> None:
    with pytest.raises(ConfigError, match="objective 'classify' trains no denoiser"):
        objectives.prediction({"name": "classify"})
