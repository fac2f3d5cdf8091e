"""The outputs of a diffusion transformer's blocks on noised images, one vector an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, SupportsFloat

import torch
from torch import Tensor, nn

from drun.errors import ConfigError, DataError


class Noising(Protocol):
    """x_t = alpha(t) x_0 + sigma(t) eps."""

    def alpha(self, t: float, /) -> SupportsFloat: ...

    def sigma(self, t: float, /) -> SupportsFloat: ...


@torch.no_grad()
def layer_features(
    network: nn.Module,
    layers: Sequence[int],
    x0: Tensor,
    labels: Tensor | None,
    process: Noising,
    t: float,
    generator: torch.Generator,
    batch_size: int,
) -> dict[int, Tensor]:
    """Block outputs on images noised to time t, averaged over the tokens: what CKNNA and probing read (Yu et al. 2024).

    The null label and the mean over tokens are as REPA's author says (github.com/sihyun-yu/REPA, issues 24 and 44).
    The network runs in evaluation mode, and has its own mode back afterwards. Features are of the residual stream,
    without a norm and without a projector.

    Args:
        network: a transformer of any precision with `blocks`, whose outputs are (N, tokens, H), and `null_label`:
            called as network(x, t, y), or as network(x, t) without labels where `null_label` is None.
        layers: blocks counted from 1.
        x0: (N, ...) clean images or latents, in the range that the network was trained on, on any device.
        labels: (N,) integers; None is the null label for all.
        process: the noising law, in the network's own time.
        t: the network's own time, and what it is given.
        generator: draws the noise, on its own device and for all images at once: the features do not depend on
            batch_size.
        batch_size: images a call.

    Returns:
        For each layer (N, H) float32 on the CPU.

    Raises:
        ConfigError: a network without blocks, no layer or one outside 1..depth, batch_size below 1, labels for a
            network that takes none, or no labels for one that has classes and no null label.
        DataError: no images, or not one label for each.
    """
    blocks = _blocks(network, layers)
    _check_images(x0, labels, batch_size)
    weight = next(network.parameters())
    noise = torch.randn(x0.shape, generator=generator, device=generator.device)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    found: dict[int, list[Tensor]] = {layer: [] for layer in blocks}
    with _evaluating(network), _watching(blocks, found):
        for first in range(0, len(x0), batch_size):
            part = slice(first, first + batch_size)
            x = alpha * x0[part].to(weight.device, torch.float32) + sigma * noise[part].to(weight.device)
            times = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
            network(x.to(weight.dtype), times, *_label(network, labels, part, x))
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def _label(network: Any, labels: Tensor | None, part: slice, x: Tensor) -> tuple[Tensor, ...]:
    """The argument after the time; the network itself refuses labels that it cannot use, or needs."""
    if labels is not None:
        return (labels[part].to(x.device),)
    if network.null_label is None:
        return ()
    return (torch.full((len(x),), network.null_label, dtype=torch.int64, device=x.device),)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each module's own afterwards: a part may be frozen while the rest trains."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _watching(blocks: dict[int, nn.Module], found: dict[int, list[Tensor]]) -> Iterator[None]:
    """Append each call's block outputs, (n, tokens, H) -> (n, H), to `found`."""
    with ExitStack() as hooks:
        for layer, block in blocks.items():
            hooks.callback(block.register_forward_hook(_keeper(found[layer])).remove)
        yield


def _keeper(parts: list[Tensor]) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(block: nn.Module, inputs: Any, output: Tensor) -> None:
        parts.append(output.float().mean(dim=1).cpu())

    return keep


def _blocks(network: nn.Module, layers: Sequence[int]) -> dict[int, nn.Module]:
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not hasattr(network, "null_label"):
        raise ConfigError(f"features are read from a transformer's blocks: got {type(network).__name__}, use a SiT")
    if not layers:
        raise ConfigError(f"no layer is named: expected some of 1..{len(blocks)}; name the blocks to read")
    for layer in layers:
        if not 1 <= layer <= len(blocks):
            raise ConfigError(f"layer got {layer}, expected 1..{len(blocks)}: blocks are counted from 1")
    return {layer: blocks[layer - 1] for layer in layers}


def _check_images(x0: Tensor, labels: Tensor | None, batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size got {batch_size}, expected at least 1: change it")
    if len(x0) == 0:
        raise DataError("there are no images to read features of: got 0, expected at least 1")
    if labels is not None and labels.shape != (len(x0),):
        raise DataError(f"labels got shape {tuple(labels.shape)}, expected ({len(x0)},): one for each image")
