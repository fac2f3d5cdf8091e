"""`dbench repa` on nets of a few thousand weights: what it compares, measures and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import ALIGNED, BOTH, tensors

from dbench.core.record import Result
from dbench.suites import repa
from dbench.suites.repa import plan
from dbench.suites.repa.plan import PLAIN, REPA
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from drun.errors import ConfigError
from drun.files import sha256


def test_both_arms_begin_as_the_same_network_and_see_the_same_batches(result: Result, settings: RepaSettings) -> None:
    logs = [(settings.runs / f"{arm}-seed3" / "log.jsonl").read_text().splitlines()[0] for arm in (PLAIN, REPA)]
    plain, aligned = map(json.loads, logs)
    assert "alignment" in aligned
    assert aligned["denoising"] == plain["loss"]  # of the first step
    ends = [tensors(settings.runs / f"{arm}-seed3" / f"{plan.RECIPES[arm]}-0000004.pt") for arm in (PLAIN, REPA)]
    assert ends[0].keys() == ends[1].keys()
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5}, "--steps got 5, expected a multiple of --every, which is 2"),
        ({"steps": 2}, "--steps got 2, expected at least twice --every, which is 2"),
        ({"seeds": (1, 1)}, r"--seeds got \[1, 1\], expected different"),
        ({"seeds": ()}, r"--seeds got \[\], expected different"),
        ({"samples": 1}, "--samples got 1, expected at least 2"),
        ({"sampling_steps": 0}, "--sampling-steps got 0, expected at least 1"),
        ({"assignments": ("train.seed=1",)}, "which --seeds decides"),
        ({"repa_assignments": ("train.steps=9",)}, "which --steps decides"),
        ({"repa_assignments": ("optimizer.learning_rate=1e-4",)}, "expected an option of REPA"),
        ({"repa_assignments": ("objective.base={}",)}, "expected an option of REPA"),
        ({"assignments": ("data.source=photos",)}, "data.source got 'photos', expected digits"),
        ({"repa_assignments": ("objective.teachers=[]",)}, "objective.teachers got"),
        ({"assignments": ("model.cats=1",)}, "cats"),
        ({"assignments": (*BOTH, "objective.cats=1")}, "cats"),
        ({"assignments": BOTH, "repa_assignments": ("objective.encoder_depth=3",)}, "encoder_depth got 3"),
    ],
)
def test_what_makes_no_comparison_is_refused(settings: RepaSettings, changes: dict[str, Any], message: str) -> None:
    before = sorted(settings.runs.iterdir())
    with pytest.raises(ConfigError, match=message):
        repa.measure(replace(settings, **changes), silent)
    assert sorted(settings.runs.iterdir()) == before  # nothing was trained in vain


def test_all_is_measured(result: Result, settings: RepaSettings) -> None:
    curves = [result.row(f"{label}, final distance").details for label in plan.LABELS.values()]
    assert all(curve["steps"] == [2, 4] and curve["seeds"] == [3] for curve in curves)
    assert curves[0]["distances"] != curves[1]["distances"]
    for name in ("linear probe", "CKNNA with the teacher"):
        found = [result.row(f"{label}, {name} at t = 0.5, best block").details for label in plan.LABELS.values()]
        assert all(np.shape(each["blocks"]) == (1, 2) for each in found)
        assert found[0] != found[1]
    assert result.subject["parameters"] > 1000
    assert (result.subject["aligned_block"], result.subject["num_real"]) == (1, 1797)
    last = [sha256(settings.runs / f"{arm}-seed3" / f"{name}-0000004.pt") for arm, name in plan.RECIPES.items()]
    assert result.subject["checkpoint_sha256"] == last
    assert str(settings.runs) not in json.dumps(result.to_dict())


def test_a_repeated_call_trains_and_draws_nothing(result: Result, settings: RepaSettings) -> None:
    files = sorted(path for path in settings.runs.rglob("*") if path.is_file())
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    assert repa.measure(settings, silent).rows == result.rows
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before
    assert sorted(path for path in settings.runs.rglob("*") if path.is_file()) == files


def test_the_command(result: Result, settings: RepaSettings, dbench: Callable[..., Any]) -> None:
    words = [word for text in BOTH for word in ("--set", text)]
    words += [word for text in ALIGNED for word in ("--repa-set", text)]
    done = dbench(
        "repa", "--steps", 4, "--seeds", "3", "--every", 2, "--samples", 12, "--sampling-steps", 2,
        "--runs", settings.runs, "--out", "results", *words,
    )  # fmt: skip
    assert done.code == 0
    written = sorted(path.name for path in Path("results").iterdir())
    ends = ("-distances.svg", "-layers.svg", ".json", ".md")
    assert written == [f"{result.file_name}{end}" for end in ends]
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(Path(f"results/{result.file_name}.json").read_text())
    assert last["rows"] == json.loads(json.dumps(result.to_dict()))["rows"]


def test_help_and_errors(dbench: Callable[..., Any]) -> None:
    assert "--repa-set" in dbench("repa", "--help").out
    done = dbench("repa", "--seeds", "many")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: --seeds got 'many', expected whole numbers")
    assert not list(Path().iterdir())
