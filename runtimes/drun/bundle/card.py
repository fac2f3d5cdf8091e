"""The model card: what a sampler must know of a model, and what the weights do not say.

Our own checkpoints, published ones and manifests all supply such a card."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypedDict

from drun.diffusion.guidance import Guidance
from drun.diffusion.prediction import COMPONENTS, LEARNED_RANGE
from drun.diffusion.process import Process
from drun.errors import BundleError

#: Counts above these are damage, not models.
MAX_STATE_SIZE, MAX_CLASSES = 1 << 28, 10_000_000
SPACES = ("pixel", "latent")

#: (C, H, W)
Shape = tuple[int, int, int]


class Latent(TypedDict):
    """z = (mean + std eps) scale + bias; the decoder takes z and undoes this itself."""

    vae: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class StateSpace:
    space: str  # pixel | latent
    shape: Shape  # of one state of the sampler
    range: tuple[float, float] = (-1.0, 1.0)  # of pixels
    latent: Latent | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise BundleError(f"image shape {self.shape} has a side below 1")
        if math.prod(self.shape) > MAX_STATE_SIZE:
            raise BundleError(f"image shape {self.shape} has more than {MAX_STATE_SIZE:,} numbers")
        if self.space not in SPACES:
            raise BundleError(f"space got '{self.space}', expected {' or '.join(SPACES)}")
        for key in ("scale", "bias") if self.latent else ():
            if (got := len(self.latent[key])) != self.shape[0]:  # type: ignore[index]
                raise BundleError(f"the latents' {key} has {got} values, expected {self.shape[0]}, one a channel")

    @classmethod
    def of(cls, shape: Shape, latent: Latent | None = None) -> StateSpace:
        """The space of the latents if there are any, else that of the pixels."""
        return cls("latent" if latent else "pixel", shape, latent=latent)


@dataclass(frozen=True)
class Classes:
    count: int
    null_label: int | None  # None: the network has no label for "no class", so it cannot be guided
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_CLASSES:
            raise BundleError(f"the number of classes got {self.count}, expected 1 to {MAX_CLASSES:,}")
        if self.null_label is not None and not 0 <= self.null_label <= self.count:
            raise BundleError(f"the null label got {self.null_label}, expected 0 to {self.count}")
        if self.names and len(self.names) != self.count:
            raise BundleError(f"{self.count} classes have {len(self.names)} names, expected one each")


@dataclass(frozen=True)
class Sampler:
    """The sampler that is used if the user names none."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A model without its weights.

    Raises:
        BundleError: a prediction or variance that is not known, or more guided channels than there are.
    """

    process: Process
    prediction: str  # see drun.diffusion.prediction
    data: StateSpace
    classes: Classes | None = None
    variance: str | None = None  # learned_range: the output's second half, see drun.diffusion.prediction
    guided_channels: int | None = None  # how many leading ones are guided; None: all
    sampler: Sampler = field(default_factory=lambda: Sampler("ddpm", {"clip_x0": True}))

    def __post_init__(self) -> None:
        if self.variance not in (None, LEARNED_RANGE):
            raise BundleError(f"variance got '{self.variance}', expected {LEARNED_RANGE} or null")
        if self.prediction not in COMPONENTS:
            raise BundleError(f"prediction got '{self.prediction}', expected one of {', '.join(COMPONENTS)}")
        if not 1 <= (self.guided_channels or 1) <= self.data.shape[0]:
            raise BundleError(f"guided channels got {self.guided_channels}, expected 1 to {self.data.shape[0]}")

    @property
    def output_shape(self) -> Shape:
        """(C, H, W) of one output of the network."""
        channels, height, width = self.data.shape
        return (channels if self.variance is None else 2 * channels), height, width

    @property
    def can_guide(self) -> bool:
        return self.classes is not None and self.classes.null_label is not None

    @property
    def guidance(self) -> Guidance:
        """The guidance of the model's paper."""
        null_label = self.classes.null_label if self.classes else None
        return Guidance(null_label or 0, self.guided_channels)
