"""`dbench repa` on nets of a few thousand weights: what it compares, measures and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from comparisons import ALIGNED, BOTH, CPU, TRIED, tensors

from dbench.core.record import Result
from dbench.suites import repa
from dbench.suites.repa import costs, drawing, plan, rows, showing
from dbench.suites.repa.plan import RANDOM, REPA
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from drun.errors import ConfigError
from drun.files import sha256
from drun.run.images import grid
from dtrain import published, teachers


def test_all_arms_begin_as_the_same_network_and_see_the_same_batches(result: Result, settings: RepaSettings) -> None:
    logs = [(settings.runs / f"{arm}-seed3" / "log.jsonl").read_text().splitlines()[0] for arm in plan.LABELS]
    plain, aligned, random = map(json.loads, logs)
    assert aligned["denoising"] == random["denoising"] == plain["loss"]  # of the first step
    assert aligned["alignment"] != random["alignment"]
    ends = [tensors(settings.runs / f"{arm}-seed3" / "digits-sit-0000004.pt") for arm in plan.LABELS]
    assert ends[0].keys() == ends[1].keys() == ends[2].keys()
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert any(not torch.equal(ends[one][name], ends[other][name]) for name in ends[0])


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
        ({"tries": ("optimizer.learning_rate=1e-4",)}, "--try got 'optimizer.learning_rate=1e-4', expected an option"),
        ({"tries": ("objective.weight=1.0 train.steps=9",)}, "--try got 'train.steps=9', which --steps decides"),
        ({"tries": (" ",)}, "--try got ' ', expected an option"),
        ({"tries": (TRIED, TRIED)}, "expected different changes"),
        ({"tries": ("objective.encoder_depth=3",)}, "encoder_depth got 3"),
        ({"assignments": ("data.source=photos",)}, "which --data decides"),
        ({"repa_assignments": ("objective.teachers=[]",)}, "which --teacher decides"),
        ({"aligned": "fashion-sit-repa"}, "compare recipes that differ in their alignment alone"),
        ({"plain": "digits-sit-repa"}, "--plain got 'digits-sit-repa', which is aligned itself"),
        ({"repa_assignments": ("objective.cache='x'",)}, "which the suite decides"),
        ({"features": "digits-teacher", "teacher": "digits-teacher"}, "--features got 'digits-teacher', which is a te"),
        ({"plain": "fashion-sit", "aligned": "fashion-sit-repa"}, "names no images: say by --data where they are"),
        ({"features": "fashion-features"}, "recipe 'fashion-features' takes images of 28 pixels"),
        ({"assignments": (*BOTH, "model.patch_size=8")}, "gives 16 tokens, 'digits-sit' has 4"),
        ({"teacher": "digits-unet"}, "recipe 'digits-unet' trains no encoder"),
        ({"teacher": "no-such-teacher"}, "unknown teacher 'no-such-teacher'"),
        ({"features": "no-such-network"}, "unknown teacher 'no-such-network'"),
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
    assert result.settings["eyes"] == ["features", "pixels"]
    for kind in ("features", "pixels"):
        curves = [result.row(rows.final_name(kind, arm)).details for arm in plan.LABELS]
        assert all(curve["steps"] == [2, 4] and curve["seeds"] == [3] for curve in curves)
        assert len({str(curve["distances"]) for curve in curves}) == 3
        assert len(result.row(rows.steps_name(kind, REPA, 4)).details["per_seed"]) == 1
        assert result.row(rows.seconds_name(kind, RANDOM, 4)).value is not None
    judge = teachers.load(settings.features, 16, CPU).fingerprint
    assert result.row(rows.floor_name("features")).details["fingerprint"] == judge
    for name in (rows.probe_name, rows.alignment_name):
        found = [result.row(name(arm, 0.5)).details for arm in plan.LABELS]
        assert all(np.shape(each["blocks"]) == (1, 2) for each in found)
        assert found[0] != found[1]
    cost = result.row(rows.STEP_COST)
    assert cost.value is not None
    assert cost.value > 0
    assert result.subject["parameters"] > 1000
    assert result.subject["aligned_block"] == 1
    assert result.subject["teachers"] == [teachers.load(settings.teacher, 16, CPU).fingerprint]
    arms = (*plan.LABELS, quote(TRIED, safe="="))
    last = [sha256(settings.runs / f"{arm}-seed3" / "digits-sit-0000004.pt") for arm in arms]
    assert result.subject["checkpoint_sha256"] == last
    assert str(settings.runs) not in json.dumps(result.to_dict())


def test_a_try_is_one_more_arm_without_times(result: Result, settings: RepaSettings) -> None:
    assert result.subject["tries"][TRIED] == result.subject["alignment"] | {"projector": "conv", "weight": 2.0}
    log = json.loads((settings.runs / f"{quote(TRIED, safe='=')}-seed3" / "log.jsonl").read_text().splitlines()[0])
    assert log["loss"] == pytest.approx(log["denoising"] + 2 * log["alignment"])
    names = [row.name for row in result.rows if TRIED in row.name]
    assert names == [
        name
        for kind in ("features", "pixels")
        for name in (
            rows.steps_name(kind, TRIED, 4),
            rows.ratio_name(kind, TRIED),
            rows.final_name(kind, TRIED),
        )
    ]
    curve = result.row(rows.final_name("features", TRIED)).details
    assert curve["distances"] != result.row(rows.final_name("features", REPA)).details["distances"]
    lines = repa.digest([("net", result)]).splitlines()
    assert [" conv" in line for line in lines if line.startswith("| `net`")] == [False, True]


def test_images_of_every_arm_at_equal_steps(result: Result, settings: RepaSettings) -> None:
    sheet = repa.pictures(settings, result)["samples"]
    one = published.load(settings.runs / "plain-seed3" / "digits-sit-0000004.pt")
    line = grid(drawing.draw(one, range(showing.COUNT), 2, CPU), showing.COUNT)
    np.testing.assert_array_equal(sheet[: len(line)], line)
    steps = len(rows.target_steps((2, 4)))
    assert len(sheet) > steps * len(plan.LABELS) * (len(line) - 10)


def test_a_repeated_call_trains_and_draws_nothing(result: Result, settings: RepaSettings) -> None:
    files = sorted(path for path in settings.runs.rglob("*") if path.is_file())
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "REPEATS", 2)
        again = repa.measure(settings, silent)
    timed = (rows.STEP_COST, rows.ENDED_COST)
    kept = [row.name for row in result.rows if "seconds" not in row.name and row.name not in timed]
    assert [again.row(name).value for name in kept] == [result.row(name).value for name in kept]
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before
    assert sorted(path for path in settings.runs.rglob("*") if path.is_file()) == files


def test_the_command(result: Result, settings: RepaSettings, dbench: Callable[..., Any]) -> None:
    words = [word for text in BOTH for word in ("--set", text)]
    words += [word for text in ALIGNED for word in ("--repa-set", text)] + ["--try", TRIED]
    done = dbench(
        "repa", "--steps", 4, "--seeds", "3", "--every", 2, "--samples", 12, "--sampling-steps", 2,
        "--teacher", settings.teacher, "--features", settings.features, "--runs", settings.runs, "--out", "results",
        *words,
    )  # fmt: skip
    assert done.code == 0, done.err
    written = sorted(path.name for path in Path("results").iterdir())
    ends = ("-distances-pixels.svg", "-distances.svg", "-layers.svg", "-samples.png", "-seconds.svg", ".json", ".md")
    assert written == [f"{result.file_name}{end}" for end in ends]
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(Path(f"results/{result.file_name}.json").read_text())


def test_help_and_errors(dbench: Callable[..., Any]) -> None:
    assert "--repa-set" in dbench("repa", "--help").out
    done = dbench("repa", "--seeds", "many")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: --seeds got 'many', expected whole numbers")
    assert not list(Path().iterdir())
