"""The training loop, top to bottom.

Every random number of step s comes from generators seeded by (seed, s), and the data order is a function of
(seed, s): so 20 steps equal 10 steps, a checkpoint and 10 more, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drun import process as processes
from drun.console import Report
from drun.errors import ConfigError, UserError
from drun.files import read_json, write_json
from dtrain import checkpoint, models, objectives
from dtrain.batches import augment, batch_indices, to_model_range
from dtrain.checkpoint import Checkpoint
from dtrain.config import Optimizer, Recipe
from dtrain.data import load_images
from dtrain.device import Placement
from dtrain.ema import Ema
from dtrain.log import Log
from dtrain.preview import write_preview

#: What a step draws random numbers for: each has its own stream, or the flips would be tied to the noise.
AUGMENTATION, NOISE = 0, 1


@dataclass
class State:
    """All that changes while training."""

    network: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    step: int = 0
    pending: list[Tensor] = field(default_factory=list)  # losses since the last look, still on the device


def train(recipe: Recipe, out: Path, placement: Placement, resume: bool, report: Report) -> Path:
    """Train, and write `recipe.json`, checkpoints, `log.jsonl`, TensorBoard events and previews to `out`.

    Returns:
        The last checkpoint.

    Raises:
        ConfigError: `out` holds another run, or nothing to resume. DataError: broken images.
        UserError: the loss is not finite; the last checkpoint is from before that.
    """
    if not recipe.data.source:
        raise ConfigError(f"recipe '{recipe.name}' brings no images: add --data with a folder, .zip or .npy stack")
    _claim(recipe, out, resume)
    process = processes.from_dict(recipe.process)
    objective = objectives.build(recipe.objective, process, placement.device)
    state = _start(recipe, placement, checkpoint.newest(out, recipe.name) if resume else None)
    channels = int(recipe.model.get("channels", 3))
    size, train = recipe.data.image_size, recipe.train
    images = load_images(recipe.data.source, size, channels, out / "images.npy", report)
    network = torch.compile(state.network) if placement.compile else state.network
    last = checkpoint.path_at(out, recipe, state.step)

    with Log(out, state.step) as log:
        start_s = time.monotonic()
        while state.step < train.steps:
            x0 = _batch(images, recipe, state.step, placement.device)
            gradient_norm = _update(network, state, objective, x0, recipe, placement)
            save, preview = (_due(state.step, every, train.steps) for every in (train.save_every, train.preview_every))
            if not (save or preview or _due(state.step, train.log_every, train.steps)):
                continue
            scalars = _scalars(state, gradient_norm, train.batch_size, time.monotonic() - start_s)
            note = f"loss {scalars['loss']:.4f}, {scalars['images_per_s']:.0f} images/s"
            report("training", state.step, train.steps, note)
            log.write(state.step, **scalars)
            state.pending.clear()
            if save:
                last = _save(state, recipe, out)
            if preview:
                picture = out / "previews" / f"step-{state.step:07d}.png"
                shape = (channels, size, size)
                write_preview(
                    picture, state.ema.network, process, objective.prediction, shape, train.num_previews,
                    train.preview_steps,
                )  # fmt: skip
            start_s = time.monotonic()
    return last


def _claim(recipe: Recipe, out: Path, resume: bool) -> None:
    """Save the resolved recipe, or refuse a folder that holds something else."""
    path = out / "recipe.json"
    if resume and checkpoint.newest(out, recipe.name) is None:
        raise ConfigError(f"nothing to resume: '{out}' has no checkpoint of '{recipe.name}'; leave out --resume")
    if not resume and checkpoint.newest(out, recipe.name) is not None:
        raise ConfigError(f"'{out}' already holds a run of '{recipe.name}': add --resume, or choose another --out")
    if resume and path.is_file():
        _check_same(recipe.to_dict(), read_json(path), out)
    write_json(path, recipe.to_dict())


def _check_same(recipe: dict[str, Any], saved: dict[str, Any], out: Path) -> None:
    """A resumed run may be longer, log and save otherwise; what is learned, and from what, must stay."""
    for section in ("model", "process", "objective", "ema"):
        if recipe[section] != saved.get(section):
            raise ConfigError(f"'{out}' was trained with {section} = {saved.get(section)}, got {recipe[section]}")
    for key in ("batch_size", "seed"):
        if recipe["train"][key] != saved["train"][key]:
            raise ConfigError(f"'{out}' was trained with {key} = {saved['train'][key]}, got {recipe['train'][key]}")


def _start(recipe: Recipe, placement: Placement, path: Path | None) -> State:
    """A fresh state, or the one in the checkpoint at `path`."""
    torch.manual_seed(recipe.train.seed)
    network = models.build(recipe.model).to(placement.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    ema = Ema(network, recipe.ema)
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, settings.betas, weight_decay=settings.weight_decay,
        fused=placement.device.type in ("cpu", "cuda"),
    )  # fmt: skip
    state = State(network, ema, optimizer)
    if path is not None:
        saved = checkpoint.read(path)
        network.load_state_dict(saved.model)
        ema.network.load_state_dict(saved.ema)
        optimizer.load_state_dict(saved.optimizer)
        state = replace(state, step=saved.step)
    return state


def _batch(images: np.ndarray[Any, np.dtype[np.uint8]], recipe: Recipe, step: int, device: torch.device) -> Tensor:
    """The images of one step: (N, C, H, W) float32 in [-1, 1]."""
    train = recipe.train
    chosen = images[batch_indices(len(images), train.batch_size, train.seed, step)]
    batch = to_model_range(torch.from_numpy(chosen).to(device))
    return augment(batch, recipe.data.augment, generator(train.seed, step, AUGMENTATION, "cpu"))


def generator(seed: int, step: int, purpose: int, device: torch.device | str) -> torch.Generator:
    """The generator of one training step for one purpose."""
    mixed = int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(mixed)


def _update(
    network: Any, state: State, objective: objectives.Objective, x0: Tensor, recipe: Recipe, placement: Placement
) -> Tensor:
    """One optimizer step; the gradient norm stays on the device."""
    rate = learning_rate(recipe.optimizer, state.step, recipe.train.steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad()
    with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.bf16):
        loss = objective.loss(network, x0, generator(recipe.train.seed, state.step, NOISE, placement.device))
    loss.backward()  # type: ignore[no-untyped-call]
    limit = recipe.optimizer.grad_clip or float("inf")
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), limit)
    state.optimizer.step()
    state.step += 1
    state.ema.update(state.step)
    state.pending.append(loss.detach())
    return norm


def learning_rate(settings: Optimizer, step: int, num_steps: int) -> float:
    """The rate of the step that follows `step` finished ones: linear warm-up, constant, cosine to zero."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    left = (num_steps - step) / (settings.decay_share * num_steps) if settings.decay_share else 1.0
    return settings.learning_rate * warmup * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _finite_losses(state: State) -> list[float]:
    """Fetch the losses since the last look; one synchronisation with the device for many steps."""
    losses = torch.stack(state.pending).tolist()
    first = state.step - len(losses) + 1
    for offset, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {first + offset}: training stopped, the last checkpoint is from before; "
                "lower optimizer.learning_rate, set optimizer.grad_clip=1, or train in fp32"
            )
    return losses


def _scalars(state: State, gradient_norm: Tensor, batch_size: int, elapsed_s: float) -> dict[str, float]:
    """What is logged about the steps since the last look."""
    losses = _finite_losses(state)
    return {
        "loss": math.fsum(losses) / len(losses),
        "gradient_norm": float(gradient_norm),
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "images_per_s": len(losses) * batch_size / elapsed_s,
    }


def _save(state: State, recipe: Recipe, out: Path) -> Path:
    saved = Checkpoint(
        recipe, state.step, state.network.state_dict(), state.ema.network.state_dict(), state.optimizer.state_dict()
    )
    return checkpoint.save(saved, out, recipe.train.keep_checkpoints)
