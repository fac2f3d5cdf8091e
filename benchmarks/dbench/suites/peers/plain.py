"""What a user would write without this project: a plain export to ONNX, and plain sampling loops in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dbench.core.inputs import Inputs
from dexport.tracing import quiet
from drun.bundle.card import Card
from drun.diffusion.grids import even_times
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError

INPUTS, OUTPUT = ("x", "t", "y"), "out"
#: The name of the open side of a plain graph.
BATCH = "batch"

Floats = NDArray[np.float32]
#: (x, t) -> the network's output for x, guided or not
Denoise = Callable[[Floats, float], Floats]
#: carries x from noise to an image
Loop = Callable[[Denoise, Floats], Floats]
#: The steps of the trajectories that calibration states are taken from.
STATE_STEPS = 50


def inputs(card: Card, batch: int) -> Inputs:
    """Standard normal x, times and labels of a batch, as arrays."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *card.data.shape), dtype=np.float32)
    t = np.full(batch, card.process.noise_end, np.float32)
    return (x, t) if card.classes is None else (x, t, rng.integers(card.classes.count, size=batch))


def export(network: nn.Module, example: Inputs, path: Path) -> Path:
    """Write the ONNX file of the network itself, by the exporter's defaults and with an open batch."""
    tensors = tuple(map(torch.from_numpy, example))
    batch = torch.export.Dim(BATCH, min=1, max=64)
    with quiet():
        torch.onnx.export(
            network,
            tensors,
            path,
            dynamo=True,
            verbose=False,
            input_names=INPUTS[: len(tensors)],
            output_names=[OUTPUT],
            dynamic_shapes=tuple({0: batch} for _ in tensors),
        )
    return path


# ---- sampling loops -------------------------------------------------------------------------------------


def loop_of(card: Card, steps: int) -> Loop:
    """A sampling loop for the model: Euler's method for flows, DDIM for chains.

    Raises:
        ConfigError: a prediction that neither takes.
    """
    process = card.process
    if isinstance(process, FlowProcess) and card.prediction == "velocity":
        times = even_times(process, steps)
        return lambda denoise, x: euler(denoise, x, times)
    if isinstance(process, DiscreteProcess) and card.prediction == "noise":
        times = [round(process.num_timesteps * (1 - i / steps)) - 1.0 for i in range(steps)]
        alphas = [float(process.alpha(t)) for t in times]
        return lambda denoise, x: ddim(denoise, x, times, alphas, card.data.space == "pixel")
    kind = process.to_dict()["kind"]
    raise ConfigError(
        f"the plain loops take velocities of flows and noise of chains, got {card.prediction} of a {kind}"
    )


def states(predict: Callable[..., Floats], card: Card, count: int) -> list[Inputs]:
    """The inputs of `count` calls of real sampling, over all times, and over the classes if there are any.

    Raises ConfigError as `loop_of`.
    """
    steps = min(STATE_STEPS, count)
    loop, rng = loop_of(card, steps), np.random.default_rng(0)
    found: list[Inputs] = []
    while len(found) < count:
        label = () if card.classes is None else (rng.integers(card.classes.count, size=1),)

        def denoise(x: Floats, t: float, label: tuple[Any, ...] = label) -> Floats:
            found.append((x.copy(), np.full(1, t, np.float32), *label))
            return predict(*found[-1])[:, : x.shape[1]]

        loop(denoise, rng.standard_normal((1, *card.data.shape), dtype=np.float32))
    return found[:count]


def guided(predict: Callable[..., Floats], label: int, null_label: int, weight: float) -> Denoise:
    """Classifier-free guidance of one image by one call on two."""
    labels = np.array([label, null_label])

    def call(x: Floats, t: float) -> Floats:
        out = predict(np.concatenate([x, x]), np.full(2, t, np.float32), labels)
        channels = x.shape[1]
        with_class, without = out[:1, :channels], out[1:, :channels]
        return without + np.float32(weight) * (with_class - without)

    return call


def euler(velocity: Denoise, x: Floats, times: Sequence[float]) -> Floats:
    """Euler's method on dx/dt = velocity. times: from noise to data, one more than steps."""
    for t, following in pairwise(times):
        x = x + np.float32(following - t) * velocity(x, t)
    return x


def ddim(noise: Denoise, x: Floats, times: Sequence[float], alphas: Sequence[float], clip: bool) -> Floats:
    """DDIM at eta = 0 (Song et al. 2021, eq. 12).

    Args:
        times: whole numbers from noise to data, one for each step.
        alphas: for each time the factor of the image, the root of the cumulative product.
        clip: whether images lie in [-1, 1].
    """
    for t, alpha, following in zip(times, alphas, [*alphas[1:], 1.0], strict=True):
        sigma, sigma_next = (1 - alpha**2) ** 0.5, (1 - following**2) ** 0.5
        x0 = np.float32(1 / alpha) * (x - np.float32(sigma) * noise(x, t))
        if clip:
            np.clip(x0, -1, 1, out=x0)
        eps = np.float32(1 / sigma) * (x - np.float32(alpha) * x0)
        x = np.float32(following) * x0 + np.float32(sigma_next) * eps
    return x


def as_float(out: Any) -> Floats:
    """A tensor as a float32 array."""
    array: Floats = out.float().numpy()
    return array
