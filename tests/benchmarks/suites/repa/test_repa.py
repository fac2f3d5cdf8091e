"""`dbench repa` on nets of a few thousand weights: what it trains, keeps, goes on with and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbench.core.record import Result
from dbench.suites import repa
from dbench.suites.repa import drawing, layers, plan, training
from dbench.suites.repa.cached import remember
from dbench.suites.repa.plan import PLAIN, REPA
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError, NotFiniteError, UserError
from drun.files import sha256
from dtrain import config, device, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.train.loop import train

CPU = torch.device("cpu")
BOTH = (
    "model.size={hidden_size=8, depth=2, num_heads=2}", "train.batch_size=4", "train.log_every=1",
    "optimizer.warmup_steps=0", "optimizer.learning_rate=0.02", "ema.decay=0.1",
)  # fmt: skip
ALIGNED = ("objective.encoder_depth=1", "objective.projector_width=8")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RepaSettings:
    """Beside a teacher that has seen two batches."""
    runs = tmp_path_factory.mktemp("repa")
    small = ("model.hidden_size=8", "model.depth=1", "model.num_heads=2", "train.steps=2", "train.batch_size=4")
    train(config.load(plan.TEACHER, list(small)), runs / "teacher", device.choose("cpu", "fp32", "off"), False, silent)
    return RepaSettings(4, (3,), 2, 12, 2, BOTH, ALIGNED, runs)


@pytest.fixture(scope="module")
def result(settings: RepaSettings) -> Result:
    return repa.measure(settings, silent)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(path)
    return saved.model | {f"ema.{name}": tensor for name, tensor in saved.ema.items()}


# ---- what is compared -----------------------------------------------------------------------------------


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


# ---- the measurement ------------------------------------------------------------------------------------


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


# ---- going on -------------------------------------------------------------------------------------------


@pytest.fixture
def copied(result: Result, settings: RepaSettings, tmp_path: Path) -> Path:
    """The finished REPA run, to be damaged."""
    return Path(shutil.copytree(settings.runs / "repa-seed3", tmp_path / "run"))


def test_an_unfinished_run_ends_as_an_uninterrupted_one(copied: Path, settings: RepaSettings) -> None:
    recipe = plan.recipes(settings, 3)[REPA]
    last = checkpoint.path_at(copied, recipe, 4)
    whole = tensors(last)
    last.unlink()
    kept = checkpoint.path_at(copied, recipe, 2).stat().st_mtime_ns
    paths = training.train_run(recipe, copied, [2, 4], "REPA", silent)
    assert list(paths.values()) == [checkpoint.path_at(copied, recipe, step) for step in (2, 4)]
    assert paths[2].stat().st_mtime_ns == kept
    again = tensors(last)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_longer_run_serves_a_shorter_comparison(copied: Path, settings: RepaSettings) -> None:
    shorter = replace(plan.recipes(settings, 3)[REPA], train=replace(plan.recipes(settings, 3)[REPA].train, steps=2))
    assert list(training.train_run(shorter, copied, [2], "REPA", silent)) == [2]
    rate = replace(shorter.optimizer, decay_share=0.5)
    with pytest.raises(ConfigError, match=r"trained with optimizer\.decay_share"):
        training.train_run(replace(shorter, optimizer=rate), copied, [2], "REPA", silent)


def test_another_run_is_not_taken_for_this_one(copied: Path, settings: RepaSettings) -> None:
    recipe = plan.recipes(replace(settings, repa_assignments=(*ALIGNED, "objective.weight=1.0")), 3)[REPA]
    with pytest.raises(ConfigError, match=r"trained with objective\.weight = 0\.5, now it is 1\.0: choose another"):
        training.train_run(recipe, copied, [2, 4], "REPA", silent)
    with pytest.raises(ConfigError, match="no checkpoint of step 1: choose its --every"):
        training.train_run(plan.recipes(settings, 3)[REPA], copied, [1, 2, 3, 4], "REPA", silent)


def test_a_teacher_is_trained_once(settings: RepaSettings) -> None:
    before = sorted((settings.runs / "teacher").iterdir())
    training.train_teacher(settings.runs / "teacher", silent)
    assert sorted((settings.runs / "teacher").iterdir()) == before


def test_records_hold_for_their_content_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "net-0000001.pt"
    path.write_bytes(b"weights")
    given = iter(range(10))

    def measured(samples: int) -> int:
        return int(remember(path, "frechet", {"samples": samples}, lambda: {"number": next(given)})["number"])

    assert [measured(8), measured(8), measured(9)] == [0, 0, 1]
    path.write_bytes(b"other weights")
    assert [measured(9), measured(9)] == [2, 2]
    (tmp_path / "net-0000001.frechet.json").write_text("{")
    with pytest.raises(UserError, match="delete it and run again"):
        measured(9)


# ---- a checkpoint ---------------------------------------------------------------------------------------


@pytest.fixture
def denoiser(result: Result, settings: RepaSettings) -> published.Denoiser:
    """The final network, perturbed: the output layer of a fresh one is nearly zero, and labels would not matter."""
    loaded = published.load(settings.runs / "plain-seed3" / "digits-sit-0000004.pt")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in loaded.network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return loaded


def test_images_are_of_every_class_in_turn_and_do_not_depend_on_how_many_are_drawn(
    denoiser: published.Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = drawing.draw(denoiser, 12, 3, CPU)
    assert (images.shape, images.dtype) == ((12, 16, 16, 1), np.uint8)
    monkeypatch.setattr(drawing, "BATCH", 5)
    in_parts = drawing.draw(denoiser, 12, 3, CPU)
    assert np.abs(images.astype(int) - in_parts).max() <= 1
    by_hand = euler(denoiser, 11, label=1, num_steps=3)
    assert np.abs(images[11, :, :, 0] - by_hand).max() <= 1
    assert np.abs(images[11, :, :, 0] - euler(denoiser, 11, label=2, num_steps=3)).max() > 1


@torch.no_grad()
def euler(denoiser: published.Denoiser, index: int, label: int, num_steps: int) -> np.ndarray:
    """x <- x + velocity dt from t = 1 to 0: grey levels (H, W)."""
    x = torch.from_numpy(PhiloxNoise(drawing.NOISE_SEED, [index], (1, 16, 16))())
    for step in range(num_steps):
        t = torch.tensor([1 - step / num_steps])
        x = x - denoiser.network(x, t, torch.tensor([label])) / num_steps
    return np.asarray((x[0, 0] * 127.5 + 127.5).round().clamp(0, 255))


def test_a_network_that_diverged_is_named(denoiser: published.Denoiser) -> None:
    with torch.no_grad():
        next(denoiser.network.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite between steps 1 and 2 of 2"):
        drawing.draw(denoiser, 2, 2, CPU)


def test_the_teacher_is_aligned_with_itself_and_pixels_tell_digits(result: Result, settings: RepaSettings) -> None:
    digits = layers.open_digits(plan.recipes(settings, 3)[PLAIN], str(settings.runs / "teacher"), CPU)
    assert digits.teacher.shape == (1797, 8)
    assert digits.alignment(digits.teacher) == pytest.approx(1, abs=0.01)
    assert digits.probe(digits.pixels()) > 0.85
    shuffled = digits.pixels()[np.random.default_rng(0).permutation(1797)]
    assert digits.probe(shuffled) < 0.2
