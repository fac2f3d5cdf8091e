"""The training loop, top to bottom, on one device or many.

Every random number of step s comes from generators seeded by (seed, s), and the data order is a function of
(seed, s): so 20 steps equal 10 steps, a checkpoint and 10 more, bit for bit on a CPU, and many processes train on
what one process trains on.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drun.bundle.average import NOTICEABLE_SHARE, of_initial_weights, percent
from drun.console import Report, silent, warn
from drun.diffusion import process as processes
from drun.errors import CheckpointError, ConfigError, DataError, UserError, memory_for
from drun.files import locked, write_json
from drun.foreign import read_json
from drun.run import images
from dtrain import models, objectives
from dtrain.averages import followed_old_law, initial_share, settled_at
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.fit import check_state
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Optimizer, Recipe
from dtrain.data.batches import batch_indices
from dtrain.data.dataset import Arrays, Dataset, Indices, described, open_dataset
from dtrain.device import Placement
from dtrain.draws import Draws
from dtrain.objectives import Batch, Losses, Objective
from dtrain.train.ema import Average
from dtrain.train.log import Log
from dtrain.train.preview import draw_preview
from dtrain.train.stop import Stop, Stopped
from dtrain.train.workers import Workers

#: Which images of a batch, their numbers in the data set, and what was read of them.
Part = tuple[slice, Indices, Arrays]


@dataclass
class Run:
    """All that a step needs, and all that changes while training."""

    recipe: Recipe
    workers: Workers
    objective: Objective
    dataset: Dataset
    network: nn.Module
    module: nn.Module                # the network with what the objective adds, as the workers run it
    optimizer: Any
    ema: Average
    step: int = 0
    pending: list[Losses] = field(default_factory=list)  # since the last look, still on the device
    gradient_norm: Tensor = field(default_factory=lambda: torch.zeros(()))


def train(recipe: Recipe, out: Path, placement: Placement, resume: bool, report: Report) -> Path:
    """Train, and write `recipe.json`, checkpoints, `log.jsonl`, TensorBoard events and previews to `out`.

    Under `accelerate launch` every process calls this; the first one writes and reports.

    Returns:
        The last checkpoint.

    Raises:
        ConfigError: `out` holds another run, or nothing to resume, or settings that do not fit. DataError: broken
        images. UserError: the loss is not finite, the last checkpoint is from before that; or another run has the
        folder. Stopped: by Ctrl-C or SIGTERM, after a checkpoint was saved. OutOfMemory.
    """
    if not recipe.data.source:
        raise ConfigError(f"recipe '{recipe.name}' brings no images: add --data with a folder, .zip or latents")
    workers = Workers(placement)
    report = report if workers.is_first else silent
    advice = "lower train.batch_size, raise train.accumulate, or train in bf16"
    with locked(out) if workers.is_first else nullcontext(), memory_for("training", advice):
        _check_folder(recipe, out, resume)
        run = start(recipe, out, workers, resume, report)
        if workers.is_first:
            write_json(out / "recipe.json", run.recipe.to_dict())
        workers.wait()
        return _train(run, out, report)


def _train(run: Run, out: Path, report: Report) -> Path:
    workers, train = run.workers, run.recipe.train
    last = checkpoint.path_at(out, run.recipe, run.step)
    _warn_at_start(run)
    with Log(out, run.step) if workers.is_first else workers.no_log() as log, Stop() as stop:
        start_s = time.monotonic()
        for parts in read_ahead(run):
            advanced = update(run, parts)
            if _is_asked_to_stop(run, stop, advanced):
                last = _save(run, out)
                _warn_at_end(run, last)
                raise Stopped(stop.number or signal.SIGTERM, run.step, last)
            if not advanced:
                continue
            save, preview = (_due(run.step, every, train.steps) for every in (train.save_every, train.preview_every))
            if not (save or preview or _due(run.step, train.log_every, train.steps)):
                continue
            scalars = _scalars(run, time.monotonic() - start_s)
            note = f"loss {scalars['loss']:.4f}, {scalars['images_per_s']:.0f} images/s"
            report("training", run.step, train.steps, note)
            log.write(run.step, **scalars)
            if save:
                last = _save(run, out)
            if preview:
                _preview(run, out, log)
            start_s = time.monotonic()
    workers.wait()
    _warn_at_end(run, last)
    return last


def _is_asked_to_stop(run: Run, stop: Stop, advanced: bool) -> bool:
    """Whether some process is; many of them agree where they wait for each other anyhow."""
    if run.workers.count == 1:
        return stop.asked
    looks = advanced and _due(run.step, run.recipe.train.log_every, run.recipe.train.steps)
    return looks and run.workers.agree(stop.asked)


# ---- the start ------------------------------------------------------------------------------------------


def _check_folder(recipe: Recipe, out: Path, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    held = checkpoint.newest(out, recipe.name)
    if resume and held is None:
        raise ConfigError(f"nothing to resume: '{out}' has no checkpoint of '{recipe.name}'; leave out --resume")
    if not resume and held is not None:
        raise ConfigError(f"'{out}' already holds a run of '{recipe.name}': add --resume, or choose another --out")
    if (other := _recorded_name(out)) not in (None, recipe.name) and checkpoint.newest(out, str(other)) is not None:
        raise ConfigError(f"'{out}' already holds a run of '{other}': choose another --out")


def _recorded_name(out: Path) -> str | None:
    """Which recipe `recipe.json` is of, if it says so."""
    try:
        return str(read_json(out / "recipe.json").get("name"))
    except DataError:
        return None


def _saved(recipe: Recipe, out: Path) -> tuple[Checkpoint, Path]:
    """The newest checkpoint, if it is of this recipe.

    Raises:
        CheckpointError: it is damaged. ConfigError: it was trained with other settings.
    """
    *older, path = checkpoint.all_of(out, recipe.name)
    try:
        saved = checkpoint.read(path)
        if path != checkpoint.path_at(out, recipe, saved.step):
            raise CheckpointError(f"'{path}' is of step {saved.step}, its name says another: it is damaged")
    except CheckpointError as error:
        advice = f"; to go on from '{older[-1]}', delete the damaged one" if older else ""
        raise CheckpointError(f"{error}{advice}") from error
    _check_same(recipe.to_dict(), saved.recipe.to_dict(), out)
    return saved, path


def _check_same(recipe: dict[str, Any], saved: dict[str, Any], out: Path) -> None:
    """A resumed run may be longer, log and save otherwise; what is learned, and from what, must stay."""
    for section in ("model", "process", "objective", "ema"):
        if recipe[section] != saved.get(section):
            raise ConfigError(f"'{out}' was trained with {section} = {saved.get(section)}, got {recipe[section]}")
    for section, key in (
        ("train", "batch_size"), ("train", "seed"), ("data", "image_size"), ("data", "augment"),
        ("data", "label_dropout"),
    ):  # fmt: skip
        before, now = saved[section].get(key), recipe[section][key]
        if now != before:
            raise ConfigError(f"'{out}' was trained with {key} = {before}, got {now}")


def start(recipe: Recipe, out: Path, workers: Workers, resume: bool, report: Report) -> Run:
    """A fresh run, or the newest checkpoint's, checked before any time is spent."""
    train = recipe.train
    workers.parts(train.batch_size, train.accumulate)
    saved, path = _saved(recipe, out) if resume else (None, None)
    objective = objectives.build(_objective(recipe), processes.from_dict(recipe.process), workers.device)
    torch.manual_seed(train.seed)
    network = models.build(recipe.model).to(workers.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    _check_model(network, objective, recipe)
    wrapped = objective.wrap(network).to(workers.device)
    dataset = workers.first_then_others(lambda: open_dataset(recipe, out / "images.npy", report))
    recipe = replace(recipe, data=described(recipe.data, dataset))
    workers.first_then_others(lambda: objective.attend(dataset, report))

    if saved is not None:
        if workers.is_first and followed_old_law(recipe.ema, saved.version):
            _warn_of_old_law(path, recipe.ema.every)
        extra = _extra(wrapped, network)
        for part, module in ((saved.model, network), (saved.ema, network), (saved.objective, extra)):
            check_state(part, module.state_dict(), f"'{path}'")
        network.load_state_dict(saved.model)
        extra.load_state_dict(saved.objective)
    if workers.compile:
        wrapped.compile()
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(
        [parameter for parameter in wrapped.parameters() if parameter.requires_grad],
        settings.learning_rate, settings.betas, weight_decay=settings.weight_decay,
        fused=workers.device.type in ("cpu", "cuda") and not workers.scales_loss,
    )  # fmt: skip
    module, prepared = workers.prepare(wrapped, optimizer)
    run = Run(recipe, workers, objective, dataset, network, module, prepared, Average(network, recipe.ema))
    if saved is not None:
        run.ema.load(saved.ema)
        workers.load_optimizer(module, prepared, saved.optimizer, saved.scaler, f"'{path}'")
        run.step = saved.step
    return run


def _warn_of_old_law(path: Path | None, every: int) -> None:
    warn(
        f"the average in '{path}' followed an older warm-up law, which acted at steps {every}, {2 * every}, ...; this "
        f"run goes on with that of ema-pytorch, at 1, {1 + every}, {1 + 2 * every}, ...: start a new run if the "
        "average must be the article's from its first step"
    )


def _objective(recipe: Recipe) -> dict[str, Any]:
    """The objective's options; those that listen to teachers are told the size of the pictures."""
    return recipe.objective | ({"image_size": recipe.data.image_size} if "teachers" in recipe.objective else {})


def _check_model(network: nn.Module, objective: Objective, recipe: Recipe) -> None:
    wanted = "class" if objective.prediction is None else "image"
    if network.predicts != wanted:
        name = recipe.objective.get("name")
        raise ConfigError(f"model {recipe.model['name']} predicts a {network.predicts}, objective '{name}' a {wanted}")
    num_timesteps = recipe.process.get("num_timesteps")
    if isinstance(num_timesteps, int) and recipe.train.preview_steps > num_timesteps:
        raise ConfigError(f"train.preview_steps got {recipe.train.preview_steps}, the process has {num_timesteps}")
    if recipe.data.label_dropout and getattr(network, "null_label", None) is None:
        raise ConfigError("data.label_dropout needs a model with classes and a null label: set it to 0")


def _extra(wrapped: nn.Module, network: nn.Module) -> nn.ModuleDict:
    """What the objective trains beside the network."""
    children = {} if wrapped is network else dict(wrapped.named_children())
    return nn.ModuleDict({name: child for name, child in children.items() if child is not network})


# ---- a step ---------------------------------------------------------------------------------------------


def read_ahead(run: Run) -> Iterator[list[Part]]:
    """This process's parts of each step's batch, read while the step before is computed."""
    num_steps = run.recipe.train.steps
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, run, run.step)
        for step in range(run.step, num_steps):
            batch = coming.result()
            if step + 1 < num_steps:
                coming = reader.submit(read, run, step + 1)
            while run.step == step:  # until the step is not skipped
                yield batch


def read(run: Run, step: int) -> list[Part]:
    """This process's parts of the batch of a step, with all that its teachers need, on the CPU."""
    train = run.recipe.train
    indices = batch_indices(len(run.dataset), train.batch_size, train.seed, step)
    parts = run.workers.parts(train.batch_size, train.accumulate)
    return [(part, indices[part], _read(run, part, indices[part], step)) for part in parts]


def _read(run: Run, part: slice, indices: Indices, step: int) -> Arrays:
    train = run.recipe.train
    features = tuple(torch.from_numpy(each) for each in run.objective.features(indices, step))
    draws = Draws(train.seed, step, train.batch_size, part, torch.device("cpu"))
    read = run.dataset.read(indices, run.objective.needs_pictures(step), draws, run.recipe.data.augment)
    arrays = replace(read, features=features)
    return arrays.pinned() if run.workers.device.type == "cuda" else arrays


def update(run: Run, parts: list[Part]) -> bool:
    """One optimizer step. False where fp16 overflowed: nothing advanced, the same step is due at a smaller scale."""
    train, workers = run.recipe.train, run.workers
    rate = learning_rate(run.recipe.optimizer, run.step, train.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    collected: list[Losses] = []
    for i, part in enumerate(parts):
        batch = _batch(run, *part)
        with workers.synchronised(run.module, i == len(parts) - 1):
            with workers.autocast():
                losses = run.objective.loss(run.module, batch)
            workers.backward(losses["loss"] / len(parts))
        collected.append({name: loss.detach() for name, loss in losses.items()})
    norm = workers.clip(run.module, run.recipe.optimizer.grad_clip or math.inf)
    if not workers.step(run.optimizer):
        return False
    run.step += 1
    run.gradient_norm = norm
    run.ema.update(run.step)
    run.pending.append({name: torch.stack([each[name] for each in collected]).mean() for name in collected[0]})
    return True


def _batch(run: Run, part: slice, indices: Indices, arrays: Arrays) -> Batch:
    recipe, device = run.recipe, run.workers.device
    draws = Draws(recipe.train.seed, run.step, recipe.train.batch_size, part, device)
    x0, pictures = run.dataset.states(arrays, draws, recipe.data.augment)
    labels = None
    if run.dataset.labels is not None:
        labels = torch.from_numpy(run.dataset.labels[indices])
        if recipe.data.label_dropout:
            labels[draws.dropped(recipe.data.label_dropout)] = int(run.network.null_label)  # type: ignore[arg-type]
        labels = labels.to(device, non_blocking=True)
    return Batch(x0, labels, draws, run.step, pictures, arrays.features)


def learning_rate(settings: Optimizer, step: int, num_steps: int) -> float:
    """The rate of the step that follows `step` finished ones: linear warm-up, constant, cosine to zero."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    left = (num_steps - step) / (settings.decay_share * num_steps) if settings.decay_share else 1.0
    return settings.learning_rate * warmup * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))


# ---- what is left behind --------------------------------------------------------------------------------


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _scalars(run: Run, elapsed_s: float) -> dict[str, float]:
    """What is logged about the steps since the last look; one synchronisation with the device for many steps.

    Not every step has every loss: an alignment ends.
    """
    num_steps = len(run.pending)
    names = list(dict.fromkeys(name for losses in run.pending for name in losses))
    columns = [[losses[name].float() for losses in run.pending if name in losses] for name in names]
    values = iter(run.workers.mean(torch.stack([value for column in columns for value in column])).tolist())
    logged = {name: list(islice(values, len(column))) for name, column in zip(names, columns, strict=True)}
    _check_finite(logged["loss"], run.step - num_steps + 1)
    run.pending.clear()
    return {name: math.fsum(column) / len(column) for name, column in logged.items()} | {
        "gradient_norm": float(run.gradient_norm),
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "images_per_s": num_steps * run.recipe.train.batch_size / elapsed_s,
    }


def _check_finite(losses: list[float], first: int) -> None:
    for offset, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {first + offset}: training stopped, the last checkpoint is from before; "
                "lower optimizer.learning_rate, set optimizer.grad_clip=1, or train in fp32"
            )


def _save(run: Run, out: Path) -> Path:
    """Every process takes part, for a sharded state is gathered; the first one writes."""
    workers, recipe = run.workers, run.recipe
    saved = Checkpoint(
        recipe,
        run.step,
        workers.whole_state(run.network),
        run.ema.state_dict(),
        workers.optimizer_state(run.module, run.optimizer),
        workers.whole_state(_extra(workers.bare(run.module), run.network)),
        workers.scaler_state(),
    )
    if workers.is_first:
        checkpoint.save(saved, out, recipe.train.keep_checkpoints)
    workers.wait()
    return checkpoint.path_at(out, recipe, run.step)


def _preview(run: Run, out: Path, log: Log) -> None:
    """Every process takes part, for sharded weights are gathered; the first one draws."""
    online, average = run.workers.whole_state(run.network), run.ema.state_dict()
    if run.objective.prediction is None or not run.workers.is_first:
        return
    picture = draw_preview(
        run.recipe, run.step, online, average, run.objective.prediction, run.dataset.shape, run.workers.device
    )
    images.write_png(out / "previews" / f"step-{run.step:07d}.png", picture)
    log.picture(run.step, picture)


# ---- what the average holds of the initial weights ------------------------------------------------------


def _warn_at_start(run: Run) -> None:
    """Once, where a checkpoint or a preview comes before the average is settled."""
    train, settled = run.recipe.train, settled_at(run.recipe.ema)
    next_look = min(every - run.step % every for every in (train.save_every, train.preview_every, train.steps))
    if run.workers.is_first and run.step + next_look < settled:
        end = f", and this run ends at {train.steps:,}" if settled > train.steps else ""
        warn(
            f"the average holds more than {percent(NOTICEABLE_SHARE)} of the initial weights until step {settled:,}"
            f"{end}: before that look at the online half of a preview, or train with ema.law=ramp, which holds none"
        )


def _warn_at_end(run: Run, last: Path) -> None:
    note = of_initial_weights(initial_share(run.recipe.ema, run.step), run.step)
    if note and run.workers.is_first:
        warn(f"the average in '{last}' {note}")
