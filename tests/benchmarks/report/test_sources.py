"""What is joined on a page belongs together; the rest is refused, or left out, by its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench.core import machine, record, subject
from dbench.core.record import Result, ResultRow
from dbench.report import sections, sources
from dbench.report.sources import Sources, gather, read_losses
from drun.bundle.card import Classes
from drun.errors import ConfigError, DataError, UserError
from dtrain.data.pixels import fingerprint

OTHER = "f" * 64


@pytest.fixture
def result(model: Any) -> Result:
    rows = (ResultRow("latency", "ort, call", 1.234, "ms", 1.1, 1.5),)
    return Result(rows, subject.of_bundle(model.open()), {}, machine.fingerprint(2), "dbench latency tiny")


def of(result: Result, **ties: Any) -> Result:
    """The same measured of something else."""
    return replace(result, subject={"name": "else"} | result.subject | ties)


# ---- results --------------------------------------------------------------------------------------------


def test_of_a_folder_what_belongs_is_taken_and_the_rest_is_named(
    model: Any, result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [of(result, bundle_sha256=OTHER), of(result, checkpoint_sha256=OTHER, bundle_sha256=None)]
    nobodys = replace(result, subject={"name": "x"})
    for each in (result, *others, nobodys):
        record.write(each, tmp_path)
    assert gather(Sources(model.bundle, results=(tmp_path,))).results == [result]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: left out of the report, for they are not of this bundle: 'latency-")
    for other, of_what in zip(others, ("bundle", "checkpoint"), strict=True):
        assert f"'{other.file_name}.json' (of {of_what} ffffffff…, not " in warning
    assert f"'{nobodys.file_name}.json' (of unknown bundle, checkpoint)" in warning


def test_a_result_that_is_named_twice_is_shown_once(model: Any, result: Result, tmp_path: Path) -> None:
    path, _ = record.write(result, tmp_path)
    assert gather(Sources(model.bundle, results=(path, tmp_path))).results == [result]


def test_a_file_of_another_model_is_refused(model: Any, result: Result, tmp_path: Path) -> None:
    path, _ = record.write(of(result, bundle_sha256=OTHER), tmp_path)
    with pytest.raises(DataError, match=r"latency-tiny-.*json' does not belong to this bundle: it is of bundle fff"):
        gather(Sources(model.bundle, results=(path,)))


def test_results_of_other_samples_are_not_those_of_the_page(
    model: Any, result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write(of(result, samples_sha256=OTHER), tmp_path)
    assert len(gather(Sources(model.bundle, results=(tmp_path,))).results) == 1
    assert gather(Sources(model.bundle, samples=model.samples, results=(tmp_path,))).results == []
    assert "for they are not of this bundle or these samples: 'latency-" in capsys.readouterr().err


def test_a_training_step_belongs_to_the_run_of_its_recipe(model: Any, result: Result, tmp_path: Path) -> None:
    recipe = json.loads((model.run / "recipe.json").read_text())
    mine = subject.of_recipe(recipe)
    for each in (mine, mine | {"recipe_sha256": OTHER}):
        record.write(replace(result, subject=each), tmp_path)
    found = gather(Sources(model.bundle, run=model.run, results=(tmp_path,))).results
    assert [each.subject for each in found] == [mine]
    assert gather(Sources(model.bundle, results=(tmp_path,))).results == []


def test_of_a_folder_what_cannot_be_read_is_named(
    model: Any, result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write(result, tmp_path)
    (tmp_path / "latency.json").write_text("{")
    (tmp_path / "old.json").write_text(json.dumps(result.to_dict() | {"schema_version": 1}))
    assert gather(Sources(model.bundle, results=(tmp_path,))).results == [result]
    broken, old = capsys.readouterr().err.splitlines()
    assert "latency.json" in broken
    assert "old.json' holds results of another schema" in old
    with pytest.raises(DataError, match="another schema: got version 1, expected 2"):
        gather(Sources(model.bundle, results=(tmp_path / "old.json",)))


@pytest.mark.parametrize("suite", ["weight", "repa.training", "..html"])
def test_a_suite_that_is_not_here_is_refused(model: Any, result: Result, tmp_path: Path, suite: str) -> None:
    row = replace(result.rows[0], suite=suite)
    (tmp_path / "x.json").write_text(json.dumps(replace(result, rows=(row,)).to_dict()))
    with pytest.raises(DataError, match=r"x.json' is of suite '.*', expected one of coreml, graphs, kernel, latency, "):
        gather(Sources(model.bundle, results=(tmp_path / "x.json",)))


# ---- samples and animation ------------------------------------------------------------------------------


def changed_run(model: Any, folder: Path, **changes: Any) -> Path:
    """The samples with another run.json."""
    shutil.copytree(model.samples, folder)
    run = json.loads((folder / "run.json").read_text())
    run["settings"] |= {key: changes.pop(key) for key in ("checkpoint_sha256",) if key in changes}
    (folder / "run.json").write_text(json.dumps(run | changes))
    return folder


@pytest.mark.parametrize("key", ["checkpoint_sha256", "bundle_sha256"])
def test_samples_of_another_model_are_refused(model: Any, tmp_path: Path, key: str) -> None:
    folder = changed_run(model, tmp_path / "samples", **{key: OTHER})
    with pytest.raises(DataError, match=f"samples' does not belong to this bundle: it is of {key[:6]}.* fffffff"):
        gather(Sources(model.bundle, samples=folder))


def test_an_animation_is_that_of_the_samples(model: Any, tmp_path: Path) -> None:
    found = gather(Sources(model.bundle, samples=model.samples, animation=model.animation))
    assert found.animation == model.animation
    other = tmp_path / "other.webp"
    other.write_bytes(model.animation.read_bytes() + b"1")
    with pytest.raises(DataError, match=r"other.webp' is not the animation of '.*samples'"):
        gather(Sources(model.bundle, samples=model.samples, animation=other))
    with pytest.raises(ConfigError, match="--animation needs --samples"):
        gather(Sources(model.bundle, animation=model.animation))


# ---- the run --------------------------------------------------------------------------------------------


@pytest.fixture
def run(model: Any, tmp_path: Path) -> Path:
    """Its recipe and log, without the checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(model.run, folder, ignore=shutil.ignore_patterns("*.pt"))
    return folder


def test_a_run_is_tied_by_its_checkpoint_whatever_that_is_called(model: Any, run: Path) -> None:
    shutil.copy(model.checkpoint, run / "renamed.pt")
    training = gather(Sources(model.bundle, run=run)).training
    assert training is not None
    assert training.is_proven


def test_a_run_whose_checkpoint_is_gone_is_not_proven(
    model: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "digits-unet-0000004.pt").write_bytes(b"a later one")
    training = gather(Sources(model.bundle, run=run)).training
    assert training is not None
    assert not training.is_proven
    assert f"does not hold {model.checkpoint.name}" in capsys.readouterr().err
    assert sections.UNPROVEN in sections.training(training)
    assert sections.UNPROVEN not in sections.training(replace(training, is_proven=True))


def test_a_run_of_another_network_is_refused(model: Any, run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["model"]["dim"] = 16
    (run / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(DataError, match=r"run' does not belong to bundle 'tiny': .* another model.dim, 16 "):
        gather(Sources(model.bundle, run=run))


def test_a_run_on_classes_of_other_names_is_another(model: Any) -> None:
    recipe, manifest = json.loads((model.run / "recipe.json").read_text()), model.open().manifest
    manifest = replace(manifest, artifacts=(), classes=Classes(2, None, ("coat", "dress")))
    same = recipe | {"data": recipe["data"] | {"class_names": ["coat", "dress"]}}
    assert sources._contradiction(Path("run"), same, 9, manifest) == ""
    assert "another data.class_names" in sources._contradiction(Path("run"), recipe, 9, manifest)


def test_a_run_of_the_same_recipe_is_refused(model: Any, run: Path) -> None:
    (run / model.checkpoint.name).write_bytes(b"of another seed")
    with pytest.raises(DataError, match=rf"run' does not belong .*: its {model.checkpoint.name} has another sha256;"):
        gather(Sources(model.bundle, run=run))


def test_a_run_that_did_not_come_so_far_is_refused(model: Any, run: Path) -> None:
    (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    with pytest.raises(DataError, match=r"its log ends at step 1, the checkpoint is of step 2;"):
        gather(Sources(model.bundle, run=run))


def test_a_run_on_other_images_is_refused(model: Any, run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["fingerprint"] = "of cats"
    (run / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(DataError, match=r"its recipe has another data.fingerprint, 'of cats' instead of '"):
        gather(Sources(model.bundle, run=run))


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n", '{"step": 1, "loss": NaN}\n'])
def test_a_log_without_losses(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"log\.jsonl"):
        read_losses(tmp_path / "log.jsonl")


def test_real_images_are_those_that_the_recipe_names(model: Any, tmp_path: Path) -> None:
    stack = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    np.save(tmp_path / "stack.npy", stack)
    training = gather(Sources(model.bundle, run=model.run)).training
    assert training is not None
    recipe = {"data": {"source": str(tmp_path / "stack.npy"), "image_size": 4}}
    real = sections.read_real(replace(training, recipe=recipe), 3, 1)
    assert real.shape == (3, 4, 4, 1)
    assert all(any((image[..., 0] == one).all() for one in stack) for image in real)
    recipe["data"]["fingerprint"] = fingerprint(stack[..., None])
    np.testing.assert_array_equal(sections.read_real(replace(training, recipe=recipe), 3, 1), real)
    np.save(tmp_path / "stack.npy", stack + 1)
    with pytest.raises(DataError, match=r"stack\.npy' no longer holds the images that the run was trained on"):
        sections.read_real(replace(training, recipe=recipe), 3, 1)


# ---- what is missing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "message"),
    [("run", "recipe.json"), ("samples", "run.json"), ("results", r"needs '.*nowhere"), ("animation", "film.webp")],
)
def test_what_is_missing_is_named(model: Any, tmp_path: Path, missing: str, message: str) -> None:
    nowhere = tmp_path / "nowhere" / ("film.webp" if missing == "animation" else "")
    given: Any = (nowhere,) if missing == "results" else nowhere
    with pytest.raises(DataError, match=message):
        gather(replace(Sources(model.bundle, samples=model.samples), **{missing: given}))


def test_an_empty_folder_of_results(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no results in '.*': measure with 'dbench coreml' or"):
        gather(Sources(model.bundle, results=(tmp_path,)))


def test_errors_are_one_line(model: Any, dbench: Callable[..., Any]) -> None:
    Path("run.json").write_text("[]")
    done = dbench("report", "page.html", "--bundle", model.bundle, "--samples", ".")
    assert done.code == 1
    assert sum(line.startswith("error: ") for line in done.err.splitlines()) == 1
    assert not Path("page.html").exists()


def test_a_recipe_that_is_none(model: Any, run: Path) -> None:
    from dbench.report import write_report
    from drun.console import silent

    (run / "recipe.json").write_text("{}")
    with pytest.raises(UserError, match="not what dtrain, drun and dbench write: it lacks 'model'"):
        write_report(run / "page.html", Sources(model.bundle, run=run), silent)
