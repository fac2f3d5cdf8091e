"""One optimizer step: reading its batch, and updating the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from dtrain.config import Optimizer
from dtrain.data.batches import batch_indices
from dtrain.data.dataset import Arrays, Indices
from dtrain.draws import Draws
from dtrain.objectives import Batch, Losses
from dtrain.train.run import Run

#: The images of a batch as a slice, their numbers in the data set, and the arrays that were read for them.
Part = tuple[slice, Indices, Arrays]


def read_ahead(run: Run) -> Iterator[list[Part]]:
    """This process's parts of each step's batch, which are read while the step before is computed."""
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
    """One optimizer step.

    Returns False if fp16 overflowed: then nothing has changed, and the step is repeated at a smaller scale.
    """
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
            labels[draws.dropped(recipe.data.label_dropout)] = run.null_label
        labels = labels.to(device, non_blocking=True)
    return Batch(x0, labels, draws, run.step, pictures, arrays.features)


def learning_rate(settings: Optimizer, step: int, num_steps: int) -> float:
    """The rate of the step that follows `step` finished ones: linear warm-up, constant, cosine to zero."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    left = (num_steps - step) / (settings.decay_share * num_steps) if settings.decay_share else 1.0
    return settings.learning_rate * warmup * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))
