"""`dbench train` on tiny real networks: the data and teachers it makes, what it counts, what it times and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dbench.core import subject
from dbench.core.record import ResultRow
from dbench.suites.train import Settings, candidates, measuring, synthetic, trial
from dbench.suites.train import rows as rows_of_steps
from dbench.suites.train.rows import WarmCandidate
from dbench.suites.train.trial import GpuScale, Matmuls, Trial, check_divides
from drun.console import silent
from drun.errors import ConfigError, UserError
from dtrain import config, device, models, teachers
from dtrain.data.dataset import LatentImages
from dtrain.data.opening import open_dataset
from dtrain.teachers import TEACHERS

CPU = device.choose("cpu", "fp32", "off")
SIZE = {"hidden_size": 16, "depth": 3, "num_heads": 2}
TINY_SIT = (
    "model.size={hidden_size=16,depth=3,num_heads=2}", "train.batch_size=4", "objective.projector_width=20",
)  # fmt: skip
TINY_UNET = ("model.dim=8", "model.dim_mults=[1,2]", "train.batch_size=4")
TINY_TEACHER = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trial.MATMUL_SIDE, "cpu", 128)


def values(rows: list[ResultRow]) -> dict[str, Any]:
    return {row.name: row.value for row in rows}


# ---- data and teachers ----------------------------------------------------------------------------------


def test_latents_are_those_of_a_folder_that_dtrain_encoded(tmp_path: Path) -> None:
    recipe = config.load("sit-s-2", ["model.input_size=8", "data.image_size=64"])
    source = synthetic.write_data(recipe, tmp_path, 5)
    recipe = config.load("sit-s-2", ["model.input_size=8", "data.image_size=64"], str(source))
    dataset = open_dataset(recipe, tmp_path / "run", silent)
    assert (len(dataset), dataset.shape) == (5, (4, 8, 8))
    assert isinstance(dataset, LatentImages)
    assert dataset.source.flipped is not None  # the recipe draws mirror images
    assert dataset.labels is not None
    assert dataset.labels.max() < 1000
    read = dataset.read(np.array([4, 0]), pictures=True)
    mean, std = np.split(read.states.numpy(), 2, axis=1)
    assert 0.8 < mean.std() < 1.2
    assert np.unique(std).tolist() == [np.float32(0.1)]
    assert read.pictures is not None
    assert read.pictures.shape == (2, 64, 64, 3)
    assert read.pictures.float().std() > 60


@pytest.mark.parametrize(
    ("name", "shape", "labelled"),
    [("digits-unet", (1, 16, 16), False), ("digits-sit", (1, 16, 16), True), ("aerial-128", (3, 128, 128), False)],
)
def test_pixels_have_the_shape_and_labels_of_the_recipe(
    name: str, shape: tuple[int, ...], labelled: bool, tmp_path: Path
) -> None:
    source = synthetic.write_data(config.load(name), tmp_path, 3)
    dataset = open_dataset(config.load(name, data=str(source)), tmp_path / "run", silent)
    assert (len(dataset), dataset.shape, dataset.labels is not None) == (3, shape, labelled)


#: Millions of weights, as the papers and model cards say, without heads.
MILLIONS = {
    "dinov2-vit-s": 22.1, "dinov2-vit-b": 86.6, "dinov2-vit-l": 304.4, "dinov2-vit-g": 1136.5,
    "dinov2-reg-vit-b": 86.6, "dinov1-vit-s": 21.7, "dinov1-vit-b": 85.8, "mae-vit-l": 303.3, "mocov3-vit-s": 21.7,
    "clip-vit-l": 303.2, "jepa-vit-h": 630.8,
}  # fmt: skip


@pytest.mark.parametrize("name", MILLIONS)
def test_teachers_have_the_size_of_the_published_ones(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, TEACHERS[name].family.model)
    with torch.device("meta"):
        network = kind(kind.config_class(**synthetic.published_config(name, 256)))
    pooler = sum(each.numel() for key, each in network.named_parameters() if key.startswith("pooler"))
    count = sum(each.numel() for each in network.parameters()) - pooler
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=0.003)


@pytest.mark.parametrize("name", ["dinov2-vit-b", "dinov2-reg-vit-b", "mocov3-vit-b", "mae-vit-l", "clip-vit-l"])
def test_random_teachers_are_read_like_published_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    for letter in "bl":
        monkeypatch.setitem(synthetic.SIZES, letter, TINY_TEACHER)
    spec = synthetic.stand_in(name, 256, tmp_path)
    assert spec == f"{name}={tmp_path / name}"
    teacher = teachers.load(spec, 256, CPU.device)
    features = teacher(torch.randint(256, (1, 256, 256, 3), dtype=torch.uint8))
    assert features.shape == (1, 256, 48)
    assert features.std() > 0.01


def test_teachers_that_are_there_are_used_as_they_are(tmp_path: Path) -> None:
    own = synthetic.stand_in("runs/digits-teacher", 16, tmp_path)
    assert teachers.load(own, 16, CPU.device).num_tokens == 16
    for given in (own, "dinov2-vit-b=somewhere", "runs/digits-sit", "runs/another"):
        assert synthetic.stand_in(given, 16, tmp_path) == given


# ---- what is counted ------------------------------------------------------------------------------------


def started(name: str, assignments: tuple[str, ...], folder: Path, **options: Any) -> Trial:
    recipe = candidates.resolve(Settings(name, assignments=assignments, **options))
    (recipe,) = candidates.prepare(recipe, (), folder, silent).values()
    return Trial(recipe, folder / "out", CPU)


def linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def test_the_work_of_a_transformer_by_its_formula(tmp_path: Path) -> None:
    tokens, hidden, depth, patch = 16, SIZE["hidden_size"], SIZE["depth"], 4 * 4 * 1
    block = (
        linear(tokens, hidden, 3 * hidden) + 2 * linear(tokens, hidden, tokens) + linear(tokens, hidden, hidden)
        + 2 * linear(tokens, hidden, 4 * hidden) + linear(1, hidden, 6 * hidden)
    )  # fmt: skip
    first = linear(tokens, patch, hidden) + linear(1, 256, hidden)  # nothing before them wants a gradient
    rest = linear(1, hidden, hidden) + depth * block + linear(1, hidden, 2 * hidden) + linear(tokens, hidden, patch)
    with closing(started("digits-sit", TINY_SIT[:2], tmp_path)) as running:
        counted = trial.count_flops(running.run)
    assert (counted.network, counted.projectors, counted.teachers) == (2 * first + 3 * rest, 0, 0)
    assert counted.total == counted.trained == counted.network


def test_the_work_of_a_unet_is_three_times_its_forward(tmp_path: Path) -> None:
    with closing(started("digits-unet", TINY_UNET, tmp_path)) as running:
        counted = trial.count_flops(running.run)
    network = models.build(running.run.recipe.model)
    with trial._counter() as counter, torch.no_grad():
        network(torch.zeros(1, 1, 16, 16), torch.zeros(1))
    assert 2.9 < counted.network / counter.get_total_flops() < 3


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_grouped_convolution_joins_the_channels_of_a_group(kind: Any, groups: int) -> None:
    """Each input (transposed) or output pixel: 9 places, 4 / groups channels in, 8 out."""
    x, layer = torch.zeros(3, 4, 6, 6, requires_grad=True), kind(4, 8, 3, padding=1, groups=groups)
    with trial._counter() as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 3 * 36 * 9 * 4 * 8 // groups)


def test_the_work_of_a_teacher_is_its_forward(tmp_path: Path) -> None:
    teacher = teachers.load(synthetic.stand_in("digits-teacher", 16, tmp_path), 16, CPU.device)
    block = 12 * linear(16, 64, 64) + 2 * linear(16, 64, 16)
    assert trial._forward(teacher) == linear(16, 16, 64) + 4 * block


def test_the_matrix_products_are_those_of_the_precision() -> None:
    matmuls = Matmuls(CPU.device, "bf16")
    matmuls()
    assert matmuls.flops == 8 * 2 * 128**3
    assert matmuls.out.dtype == torch.bfloat16
    torch.testing.assert_close(matmuls.out, matmuls.a @ matmuls.b)


# ---- what is timed --------------------------------------------------------------------------------------


def test_a_step_trains_every_weight(tmp_path: Path) -> None:
    with closing(started("digits-sit", TINY_SIT[:2], tmp_path)) as running:
        parameters = {name: each for name, each in running.run.module.named_parameters() if each.requires_grad}
        assert all(each.any() for each in parameters.values())  # none holds back the gradients of others
        before = {name: each.detach().clone() for name, each in parameters.items()}
        average = {name: each.clone() for name, each in running.run.ema.average.items()}
        running.whole_step()
        running.read()
        assert running.run.step == 1
        assert not any(torch.equal(each, before[name]) for name, each in parameters.items())
        assert not any(torch.equal(running.run.ema.average[name], average[name]) for name in parameters)
        assert 0 < running.loss < 10


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


def test_only_a_gpu_is_weighed_in_this_process() -> None:
    scale = GpuScale(CPU.device)
    scale.begin()
    assert scale.peak() is None


def test_the_bar_stands_beside_the_recipe_it_is_for(opened: dict[str, WarmCandidate]) -> None:
    assert ("sit-xl-2-repa", config.load("sit-xl-2-repa").train.batch_size) in rows_of_steps.BARS
    rows = rows_of_steps.timed_rows(opened, Matmuls(CPU.device, "fp32"), CPU, Settings("", steps=1), silent)
    assert not any("bar" in row.details for row in rows)


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


# ---- what is refused ------------------------------------------------------------------------------------


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
