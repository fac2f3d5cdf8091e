"""How fast is a training step, how much of the device does it use, how much memory, and what do teachers cost?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dbench.core import fresh, machine, timing
from dbench.core.record import Result, Row, spread_row, this_command
from dbench.core.timing import Timing
from dbench.suites.train import synthetic
from dbench.suites.train.trial import Flops, GpuPeak, GpuScale, Matmuls, Trial, check_divides, count_flops, synchronise
from drun.console import Report
from drun.errors import ConfigError, UserError
from drun.files import write_json
from dtrain import config
from dtrain import device as devices
from dtrain.config import Recipe
from dtrain.device import Placement
from dtrain.teachers import TEACHERS

SUITE = "train"
LIVE, CACHED, NONE = TEACHER = ("live", "cached", "none")
MATMUL = "matrix rate"
#: Untimed rounds at the head of the turns, after the warm-up of each candidate alone.
LEAD_IN_ROUNDS = 1
#: At least: one step that compiles and one that is weighed.
LEAST_WARMUP = 2
READINGS = 5
MB, TERA = 1e6, 1e12
AS_GIVEN, RANDOM = "as given", "random weights of the real size and class: speed does not depend on them"
#: What to compare with, by recipe and batch.
BARS = {
    ("sit-xl-2-repa", 256): (
        "REPA's official code: 5.4 steps/s on 8 H100, 0.68 steps/s for each at batch 256; aim: 2 steps/s on one H200"
    ),
}


@dataclass(frozen=True)
class Settings:
    recipe: str                         # a name from `dtrain recipes`, or a .toml file
    batch: int = 0                      # images a step; 0: the recipe's
    steps: int = 10                     # timed, of each candidate
    warmup: int = 3                     # untimed before them; the first one compiles
    device: str = "auto"
    precision: str = "auto"             # auto: the recipe's
    compile: str = "auto"               # auto: the recipe's
    teacher: tuple[str, ...] = ()       # of live, cached, none; (): all three, if the recipe has teachers
    assignments: tuple[str, ...] = ()   # section.key=value


@dataclass(frozen=True)
class Candidate:
    """A run that is warm, and what was seen of it on the way."""

    trial: Trial
    flops: Flops
    first_step_s: float
    peak: GpuPeak | None


def measure(settings: Settings, report: Report) -> Result:
    """Time the steps of a recipe on synthetic data, its teachers live, cached and absent in turns, and weigh each.

    Raises:
        ConfigError: an unknown recipe, setting or teacher option, a batch that does not divide, or a device that is
            not there. UserError: the device's memory does not suffice.
    """
    recipe = resolve(settings)
    chosen = choose(recipe, settings.teacher)
    placement = devices.choose(settings.device, recipe.train.precision, recipe.train.compile)
    check_divides(recipe, placement)
    start = machine.usage()
    with tempfile.TemporaryDirectory(prefix="dbench-train-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        recipes = prepare(recipe, chosen, folder, report)
        rows = _in_this_process(recipes, folder, placement, settings, report)
        if placement.device.type == "cpu":
            rows += _in_fresh_processes(recipes, folder, placement, report)
    resolved = asdict(settings) | {
        "recipe": recipe.name, "batch": recipe.train.batch_size, "teacher": chosen, "runs_on": _runs_on(placement),
        "device": placement.device.type, "precision": placement.precision, "compile": placement.compile,
    }  # fmt: skip
    here = machine.fingerprint(torch.get_num_threads(), since=start)
    return Result(tuple(rows), _subject(recipe, chosen), resolved, here, this_command())


# ---- what is measured -----------------------------------------------------------------------------------


def resolve(settings: Settings) -> Recipe:
    """The recipe with the settings applied, long enough for all steps.

    Raises:
        ConfigError: an unknown recipe or setting, or too few steps.
    """
    if settings.warmup < LEAST_WARMUP or settings.steps < 1:
        got = f"{settings.warmup} and {settings.steps}"
        raise ConfigError(f"--warmup and --steps got {got}, expected at least {LEAST_WARMUP} and 1")
    options = {"batch_size": settings.batch or "", "precision": settings.precision, "compile": settings.compile}
    given = [f"train.{key}={value}" for key, value in options.items() if value not in ("", "auto")]
    recipe = config.load(settings.recipe, [*settings.assignments, *given])
    num_steps = settings.warmup + LEAD_IN_ROUNDS + 2 * settings.steps
    return replace(recipe, train=replace(recipe.train, steps=max(recipe.train.steps, num_steps)))


def choose(recipe: Recipe, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Which of `live`, `cached` and `none` to measure; (): the recipe as it is, which has no teachers.

    Raises:
        ConfigError: another word, or one for a recipe without alignment, or a cache of the user's.
    """
    if unknown := [word for word in wanted if word not in TEACHER]:
        raise ConfigError(f"--teacher got '{unknown[0]}', expected one of {', '.join(TEACHER)}")
    if "teachers" not in recipe.objective:
        if wanted:
            raise ConfigError(f"--teacher got '{wanted[0]}', but recipe '{recipe.name}' has no teachers: leave it out")
        return ()
    if recipe.objective.get("cache"):
        raise ConfigError("--set objective.cache has no use here, where a cache is made: use --teacher cached")
    return tuple(word for word in TEACHER if word in (wanted or TEACHER))


def prepare(recipe: Recipe, chosen: tuple[str, ...], folder: Path, report: Report) -> dict[str, Recipe]:
    """Synthetic data, teachers of random weights, and for each candidate a recipe that uses them, by its name."""
    source = synthetic.write_data(recipe, folder, recipe.train.batch_size)
    recipe = replace(recipe, data=replace(recipe.data, source=str(source)))
    objective = dict(recipe.objective)
    if not chosen:
        return {recipe.name: recipe}
    if chosen != (NONE,):
        specs = list(objective["teachers"])
        objective["teachers"] = []
        for done, spec in enumerate(specs):
            report("making teachers of random weights", done, len(specs))
            objective["teachers"].append(synthetic.stand_in(spec, recipe.data.image_size, folder / f"teacher-{done}"))
    objectives = {LIVE: objective, CACHED: objective | {"cache": str(folder / "features")}, NONE: objective["base"]}
    return {f"teacher {word}": replace(recipe, objective=objectives[word]) for word in chosen}


def _subject(recipe: Recipe, chosen: tuple[str, ...]) -> dict[str, Any]:
    specs = recipe.objective["teachers"] if set(chosen) - {NONE} else ()
    published = any(spec.partition("=")[0] in TEACHERS for spec in specs)
    libraries = ("accelerate", "transformers") if published else ("accelerate",)
    return {
        "recipe": recipe.name,
        "model": recipe.model,
        "data": f"{recipe.train.batch_size} random images, made on the spot and read from the page cache",
        "teachers": {_shown(spec): AS_GIVEN if _is_given(spec) else RANDOM for spec in specs},
        "versions": {library: version(library) for library in libraries},
    }


def _shown(spec: str) -> str:
    """Without folders."""
    name, _, location = spec.partition("=")
    return f"{name}={Path(location).name}" if location else Path(name).name


def _is_given(spec: str) -> bool:
    return "=" in spec or Path(spec).exists()


def _runs_on(placement: Placement) -> str:
    device = placement.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"PyTorch {'compiled ' if placement.compile else ''}on {name}"


# ---- in turns -------------------------------------------------------------------------------------------


def _in_this_process(
    recipes: dict[str, Recipe], folder: Path, placement: Placement, settings: Settings, report: Report
) -> list[Row]:
    with ExitStack() as stack:
        try:
            opened = {}
            for name, recipe in recipes.items():
                opened[name] = open_candidate(recipe, folder / "out" / name, placement, settings.warmup, report)
                stack.enter_context(closing(opened[name].trial))
            return timed_rows(opened, Matmuls(placement.device, placement.precision), placement, settings, report)
        except torch.OutOfMemoryError as error:
            size = next(iter(recipes.values())).train.batch_size
            raise UserError(
                f"the memory of {placement.device.type} does not suffice for {', '.join(recipes)} at --batch {size}: "
                "measure fewer --teacher at once, or a smaller --batch"
            ) from error


def open_candidate(recipe: Recipe, folder: Path, placement: Placement, warmup: int, report: Report) -> Candidate:
    """Start a run and warm it up; on a GPU the steps after the first one are weighed."""
    scale = GpuScale(placement.device)
    trial = Trial(recipe, folder, placement, report)
    start_s = time.perf_counter()
    trial.whole_step()
    first_step_s = time.perf_counter() - start_s
    scale.begin()
    for done in range(1, warmup):
        report("warming up", done, warmup)
        trial.whole_step()
    peak = scale.peak()
    return Candidate(trial, count_flops(trial.run), first_step_s, peak)


def timed_rows(
    opened: dict[str, Candidate], matmuls: Matmuls, placement: Placement, settings: Settings, report: Report
) -> list[Row]:
    """A step of each candidate and a burst of matrix products, in turns."""

    def burst() -> None:
        matmuls()
        synchronise(placement.device)

    steps = {name: candidate.trial.whole_step for name, candidate in opened.items()}
    calls: dict[str, Callable[[], object]] = {**steps, MATMUL: burst}
    timings = timing.interleave(
        calls, settings.steps, warmup=LEAD_IN_ROUNDS,
        on_round=lambda done: report("timing steps", done, settings.steps),
    )  # fmt: skip
    readings = timing.interleave({name: candidate.trial.read for name, candidate in opened.items()}, READINGS, warmup=1)
    rates = [matmuls.flops / (latency_ms / 1e3) for latency_ms in timings[MATMUL].latencies_ms]
    rows = []
    for name, candidate in opened.items():
        rows += _speed_rows(name, candidate, timings[name], placement)
        rows += _work_rows(name, candidate, timings[name], rates)
        reading = readings[name].spread_ms
        rows.append(spread_row(SUITE, f"{name}, reading a batch, beside the step before", reading, "ms"))
        rows.append(Row(SUITE, f"{name}, first step, with all that is compiled then", candidate.first_step_s, "s"))
        if candidate.peak is not None:
            rows += _gpu_rows(name, candidate.peak)
        if placement.device.type != "cpu":
            rows.append(_unbroken_row(name, candidate.trial, settings.steps))
    return [*rows, *_ratio_rows(timings), _rate_row(matmuls, rates, placement)]


def _speed_rows(name: str, candidate: Candidate, times: Timing, placement: Placement) -> list[Row]:
    recipe = candidate.trial.run.recipe
    batch = recipe.train.batch_size
    bar = {"bar": BARS[recipe.name, batch]} if (recipe.name, batch) in BARS else {}
    steps = [1e3 / latency_ms for latency_ms in times.latencies_ms]
    images = timing.spread([batch * each for each in steps])
    details = {
        "runs_on": _runs_on(placement), "precision": placement.precision, "batch": batch,
        "loss": candidate.trial.loss, "latencies_ms": times.latencies_ms,
    }  # fmt: skip
    return [
        spread_row(SUITE, f"{name}, step of {batch} images", times.spread_ms, "ms", details=details),
        spread_row(SUITE, f"{name}, steps a second", timing.spread(steps), "1/s", details=bar),
        spread_row(SUITE, f"{name}, images a second", images, "1/s"),
    ]


def _work_rows(name: str, candidate: Candidate, times: Timing, rates: list[float]) -> list[Row]:
    """What is counted for a step, and which share of the matrix rate of the same round that is."""
    batch, each = candidate.trial.run.recipe.train.batch_size, candidate.flops
    seconds = [latency_ms / 1e3 for latency_ms in times.latencies_ms]

    def share(count: int) -> timing.Spread:
        pairs = zip(seconds, rates, strict=True)
        return timing.spread([100 * batch * count / step_s / rate for step_s, rate in pairs])

    counted = {f"{part}_flops_an_image": count for part, count in asdict(each).items()}
    return [
        Row(SUITE, f"{name}, counted work of a step", batch * each.total / TERA, "TFLOP", details=counted),
        spread_row(
            SUITE, f"{name}, share of the matrix rate", share(each.total), "%",
            details={"of_the_trained_parts_alone": share(each.trained).median},
        ),
    ]  # fmt: skip


def _gpu_rows(name: str, peak: GpuPeak) -> list[Row]:
    of = {"of": "this candidate alone, PyTorch's allocator: what the others hold at rest is subtracted"}
    sizes = {"allocated": peak.allocated_bytes, "reserved": peak.reserved_bytes}
    return [
        Row(SUITE, f"{name}, peak GPU memory {what}", size / MB, "MB", details={"bytes": size} | of)
        for what, size in sizes.items()
    ]


def _unbroken_row(name: str, trial: Trial, num_steps: int) -> Row:
    """As `dtrain run` does it: the processor prepares the next step while the device is still at this one."""
    start_s = time.perf_counter()
    for _ in range(num_steps):
        trial.step()
    synchronise(trial.device)
    rate = num_steps / (time.perf_counter() - start_s)
    return Row(SUITE, f"{name}, steps a second in one unbroken row", rate, "1/s", details={"steps": num_steps})


def _ratio_rows(timings: dict[str, Timing]) -> list[Row]:
    """How many times as long a step takes, from the pairs of each round."""
    names = [f"teacher {word}" for word in TEACHER if f"teacher {word}" in timings]
    pairs = [(above, below) for i, above in enumerate(names) for below in names[i + 1 :]]
    return [
        spread_row(
            SUITE, f"step, {above} / {below}", timing.pairwise_ratio(timings[above], timings[below]), "x",
            details={"of_medians": timing.ratio_of_medians(timings[above], timings[below])},
        )
        for above, below in pairs
    ]  # fmt: skip


def _rate_row(matmuls: Matmuls, rates: list[float], placement: Placement) -> Row:
    details = {
        "side": matmuls.side, "precision": placement.precision, "float32": torch.get_float32_matmul_precision(),
    }  # fmt: skip
    spread = timing.spread([rate / TERA for rate in rates])
    return spread_row(SUITE, f"{MATMUL}, measured in turns with the steps", spread, "TFLOP/s", details=details)


# ---- fresh processes ------------------------------------------------------------------------------------


def _in_fresh_processes(
    recipes: dict[str, Recipe], folder: Path, placement: Placement, report: Report
) -> list[Row]:
    """The largest resident memory of a process that trains a few steps: Python and PyTorch are in it."""
    rows = []
    for done, (name, recipe) in enumerate(recipes.items()):
        report("weighing processes", done, len(recipes))
        peak = weigh(recipe, folder / "out" / name, placement)
        details = {"bytes": peak, "of": "a fresh process, resident: Python, PyTorch, data and training together"}
        value = None if peak is None else peak / MB
        rows.append(Row(SUITE, f"{name}, peak memory of a fresh process", value, "MB", details=details))
    return rows


def weigh(recipe: Recipe, folder: Path, placement: Placement) -> int | None:
    """Peak resident bytes of `python -m dbench.suites.train.trial`; None where the system does not say."""
    path = folder / "weighed.json"
    write_json(path, recipe.to_dict())
    words = (path, folder, placement.precision, "on" if placement.compile else "off")
    return fresh.peak_bytes(["-m", "dbench.suites.train.trial", *map(str, words)])
