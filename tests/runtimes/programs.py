"""Bundles with a PyTorch program of the tests' network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gaussians import CLASS_STEP, alphas_cumprod, slopes
from torch import nn

from dexport.targets import Part
from dexport.targets import pt2 as target
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES, Tensor
from drun.bundle.reading import Bundle

MakeBundle = Callable[..., Path]
#: drun and what is installed, for other processes
INSTALLED = [Path(np.__file__).parents[1], Path(backends.__file__).parents[2]]
HAS_CUDA = torch.cuda.is_available()


class Gaussian(nn.Module):
    """The network of the tests' bundles, E[eps | x_t] of Gaussian images, times `gain`.

    With a learned variance, its half is the noise again.
    """

    def __init__(self, conditional: bool, learned: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.from_numpy(slopes(gain)).float())
        self.register_buffer("alphas", torch.from_numpy(np.sqrt(alphas_cumprod())).float())
        self.conditional, self.learned = conditional, learned

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        index = t.long()
        if y is not None:
            x = x - (y.float() * CLASS_STEP * self.alphas[index]).reshape(-1, 1, 1, 1)
        out = x * self.slopes[index].reshape(-1, 1, 1, 1)
        return torch.cat((out, torch.tanh(out)), dim=1) if self.learned else out


@dataclass(frozen=True)
class Made:
    """A bundle, and the program that was added to it."""

    bundle: Bundle
    path: Path  # the program


def export(bundle: Bundle, network: nn.Module, io: tuple[Tensor, ...], batch: tuple[int, int]) -> Made:
    """Add a program to a bundle as `dexport` does, and read it back."""
    network = network.eval()
    part = Part("denoiser.fp32", network, network, "fp32", io, batch, TOLERANCES["fp32"])
    artifact = target.export(part, bundle.path)
    return Made(listed(bundle, artifact), bundle.path / artifact.files[0].path)


def listed(bundle: Bundle, artifact: Any) -> Bundle:
    """The bundle read back after its manifest lists this artifact in place of one of the same identity."""
    others = tuple(one for one in bundle.manifest.artifacts if one.id != artifact.id)
    manifest = replace(bundle.manifest, artifacts=(*others, artifact))
    (bundle.path / "manifest.json").write_text(manifest.to_json())
    return bundles.read(bundle.path)


def gaussian(folder: Path, batch: tuple[int, int] = (1, 64), gain: float = 1.0) -> Made:
    """A program in the bundle of `make_bundle`, which says whether there are classes and a learned variance."""
    bundle = bundles.read(folder)
    manifest = bundle.manifest
    network = Gaussian(manifest.classes is not None, manifest.variance is not None, gain)
    return export(bundle, network, manifest.artifacts[0].io, batch)
