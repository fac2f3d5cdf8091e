"""`dbench train` on tiny real networks: its candidates, what it times and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import torch
from trials import CPU, TINY_SIT, TINY_UNET

from dbench.core import subject
from dbench.core.matmuls import Matmuls
from dbench.core.record import ResultRow
from dbench.suites.train import Settings, candidates, measuring
from dbench.suites.train import rows as rows_of_steps
from dbench.suites.train.rows import WarmCandidate
from dbench.suites.train.trial import check_divides
from drun.console import silent
from drun.errors import ConfigError, UserError
from dtrain import config


def values(rows: list[ResultRow]) -> dict[str, Any]:
    return {row.name: row.value for row in rows}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, WarmCandidate]]:
    folder = tmp_path_factory.mktemp("train")
    recipe = candidates.resolve(Settings("digits-sit-repa", steps=3, assignments=TINY_SIT))
    recipes = candidates.prepare(recipe, candidates.choose(recipe, ()), folder, silent)
    with ExitStack() as stack:
        found = {}
        for name, each in recipes.items():
            found[name] = measuring.open_candidate(each, folder / "out" / name, CPU, 2, silent)
            stack.enter_context(closing(found[name].trial))
        yield found


def test_the_candidates_differ_in_their_teacher_alone(opened: dict[str, WarmCandidate]) -> None:
    live, cached, none = (opened[f"teacher {word}"] for word in ("live", "cached", "none"))
    assert (len(live.trial.run.objective.teachers), live.trial.run.objective.needs_pictures(0)) == (1, True)
    assert (len(cached.trial.run.objective.cached), cached.trial.run.objective.needs_pictures(0)) == (1, False)
    assert type(none.trial.run.objective).__module__ == "dtrain.objectives.flow"
    assert live.trial.loss == pytest.approx(cached.trial.loss, rel=1e-3)  # features of 16 bits
    assert live.flops.network == cached.flops.network == none.flops.network > 0
    assert live.flops.projectors == cached.flops.projectors > 0 == none.flops.projectors
    assert live.flops.teachers > 0 == cached.flops.teachers == none.flops.teachers
    assert all(candidate.first_step_s > 0 and candidate.peak is None for candidate in opened.values())


def test_rows_belong_together(opened: dict[str, WarmCandidate]) -> None:
    rows = rows_of_steps.timed_rows(opened, Matmuls(CPU.device, "fp32"), CPU, Settings("", steps=3), silent)
    found, by_name = values(rows), {row.name: row for row in rows}
    for name, candidate in opened.items():
        step, share = by_name[f"{name}, step of 4 images"], by_name[f"{name}, share of the matrix rate"]
        assert len(step.details["latencies_ms"]) == 3
        assert found[f"{name}, steps a second"] == pytest.approx(1e3 / step.value)
        assert found[f"{name}, images a second"] == pytest.approx(4e3 / step.value)
        assert found[f"{name}, counted work of a step"] == pytest.approx(4 * candidate.flops.total / 1e12)
        assert share.p10 <= share.value <= share.p90
        trained = share.details["of_the_trained_parts_alone"] / share.value
        assert trained == pytest.approx(candidate.flops.trained / candidate.flops.total)
        assert found[f"{name}, reading a batch, beside the step before"] > 0
    ratios = [row for row in rows if row.name.startswith("step, ")]
    assert [row.name.removeprefix("step, ") for row in ratios] == [
        "teacher live / teacher cached", "teacher live / teacher none", "teacher cached / teacher none",
    ]  # fmt: skip
    medians = found["teacher live, step of 4 images"] / found["teacher none, step of 4 images"]
    assert ratios[1].details["of_medians"] == pytest.approx(medians)
    assert found["matrix rate, measured in turns with the steps"] > 0


def test_steps_in_an_unbroken_row(opened: dict[str, WarmCandidate]) -> None:
    running = opened["teacher none"].trial
    done = running.run.step
    row = rows_of_steps._unbroken_row("teacher none", running, 3)
    assert running.run.step == done + 3
    assert row.value > 0


def test_the_bar_stands_beside_the_recipe_it_is_for(opened: dict[str, WarmCandidate]) -> None:
    assert ("sit-xl-2-repa", config.load("sit-xl-2-repa").train.batch_size) in rows_of_steps.BARS
    rows = rows_of_steps.timed_rows(opened, Matmuls(CPU.device, "fp32"), CPU, Settings("", steps=1), silent)
    assert not any("bar" in row.details for row in rows)


@pytest.mark.slow
def test_the_command(dbench: Callable[..., Any]) -> None:
    settings = [word for each in TINY_UNET for word in ("--set", each)]
    done = dbench("train", "digits-unet", "--batch", 3, "--steps", 2, "--warmup", 2, "--device", "cpu", *settings)
    assert done.code == 0, done.err
    last = json.loads(done.out.splitlines()[-1])
    (file,) = Path("results").glob("train-digits-unet-*.json")
    assert last == json.loads(file.read_text())
    assert [file.name for file in Path().iterdir()] == ["results"]
    rows = {row["name"]: row["value"] for row in last["rows"]}
    assert rows["digits-unet, images a second"] == pytest.approx(3 * rows["digits-unet, steps a second"])
    peak = rows["digits-unet, peak memory of a fresh process"]
    assert peak is None or 100 < peak < 2000
    settings_used = last["settings"]
    assert (settings_used["batch"], settings_used["precision"], settings_used["teacher"]) == (3, "fp32", [])
    assert last["subject"]["model"]["dim"] == 8
    recipe = config.load("digits-unet", [*TINY_UNET, "train.steps=7"]).to_dict()  # as recipe.json of a run has it
    assert last["subject"]["recipe_sha256"] == subject.of_recipe(recipe)["recipe_sha256"]
    assert last["subject"]["teachers"] == {}
    assert last["machine"]["num_threads"] == torch.get_num_threads()


def test_the_subject_says_which_teachers_are_random() -> None:
    recipe = config.load("digits-sit-repa", ['objective.teachers=["runs/digits-teacher", "dinov2-vit-b=/a/b"]'])
    told = candidates.subject_of(recipe, ("live",))["teachers"]
    assert told["dinov2-vit-b=b"] == "as given"
    assert "random weights" in told["digits-teacher"]
    assert candidates.subject_of(recipe, ("none",))["teachers"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonesuch",), "unknown recipe 'nonesuch'"),
        (("digits-sit-repa", "--teacher", "dead"), "--teacher got 'dead', expected one of live, cached, none"),
        (("digits-sit", "--teacher", "live"), "but recipe 'digits-sit' has no teachers: leave it out"),
        (("digits-sit-repa", "--set", "objective.cache=features"), "use --teacher cached"),
        (("digits-sit", "--batch", "3", "--set", "train.accumulate=2"), "train.batch_size got 3, expected a multiple"),
        (("digits-sit", "--precision", "int3"), "train.precision got 'int3', expected one of auto, fp32, bf16, fp16"),
        (("digits-sit", "--compile", "maybe"), "train.compile got 'maybe', expected one of auto, on, off"),
        (("digits-sit", "--device", "tpu"), "unknown device 'tpu'"),
    ],
)
def test_errors_are_one_line(dbench: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    done = dbench("train", *arguments)
    assert done.code == 1
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert message in line
    assert not list(Path().iterdir())


@pytest.mark.parametrize("steps", [{"warmup": 1}, {"steps": 0}])
def test_too_few_steps(steps: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"--warmup and --steps got .+ and .+, expected at least 2 and 1"):
        candidates.resolve(Settings("digits-sit", **steps))


def test_a_batch_of_fewer_images_than_parts() -> None:
    with pytest.raises(ConfigError, match="expected a multiple of 1 processes times"):
        check_divides(config.load("digits-sit", ["train.batch_size=1", "train.accumulate=2"]), CPU)


def test_the_order_of_the_options_does_not_matter() -> None:
    recipe = config.load("digits-sit-repa")
    assert candidates.choose(recipe, ("none", "live", "none")) == ("live", "none")
    assert candidates.choose(recipe, ()) == ("live", "cached", "none")


def test_teachers_are_made_only_for_those_who_listen(tmp_path: Path) -> None:
    recipe = candidates.resolve(Settings("digits-sit-repa", assignments=("train.batch_size=2",)))
    assert list(candidates.prepare(recipe, ("none",), tmp_path, silent)) == ["teacher none"]
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a GPU raises, once it has begun."""

    def full(*arguments: Any) -> WarmCandidate:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measuring, "open_candidate", full)
    recipes = {"teacher live": config.load("digits-sit"), "teacher none": config.load("digits-sit")}
    with pytest.raises(UserError, match=r"suffice for teacher live, teacher none at --batch 32: measure fewer"):
        measuring._in_this_process(recipes, tmp_path, CPU, Settings("digits-sit"), silent)
