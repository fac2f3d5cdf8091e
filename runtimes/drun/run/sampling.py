"""Joins a model's card, its network and the settings, and checks them. All batches of the project are drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from drun.bundle.card import Card
from drun.diffusion import samplers
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import NOBODY, Observer
from drun.diffusion.noise import NoiseSource, PhiloxNoise
from drun.diffusion.table import StepTable
from drun.errors import ConfigError
from drun.run import labels
from drun.run.noise_file import FileNoise
from drun.settings import SamplingSettings


class Walker(Protocol):
    """A network that carries a batch through a table: an opened backend, or eager PyTorch."""

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """See `drun.backends.Backend.walk`."""
        ...


@dataclass
class Sampling:
    """A card, a network and settings, ready to draw any of the run's images.

    Raises:
        ConfigError: settings that do not fit the model.
    """

    card: Card
    network: Walker
    settings: SamplingSettings
    noise_file: FileNoise | None = None
    table: StepTable = field(init=False)

    def __post_init__(self) -> None:
        settings, card = self.settings, self.card
        table = samplers.step_table(
            settings.sampler, card.process, card.prediction, settings.num_steps, settings.options, card.variance
        )
        if (settings.cfg_channels or 0) > card.data.shape[0]:
            raise ConfigError(
                f"--cfg-channels got {settings.cfg_channels}, expected at most {card.data.shape[0]}, or all"
            )
        self.table = with_guidance(table, settings.cfg, settings.interval)
        PhiloxNoise(settings.seed, [], card.data.shape)
        self.labels([0])

    def labels(self, indices: Sequence[int]) -> Labels | None:
        """The classes of the samples `indices`: (N,) int64, or None for an unconditional model."""
        settings = self.settings
        return labels.choose(settings.labels, indices, self.card.classes, settings.seed, guided=settings.cfg != 1)

    def draw(self, indices: Sequence[int], observer: Observer = NOBODY, batch: int = 1) -> State:
        """The final states of the samples `indices`: (N, C, H, W) of the state dtype.

        Args:
            observer: sees the states of these samples.
            batch: fewer samples are filled up to this number, because a runtime may compute a smaller batch otherwise.

        Raises:
            NotFiniteError: a state that is not finite.
        """
        count = len(indices)
        filled = [*indices, *[indices[-1]] * (batch - count)]
        seen = Observer(observer.progress, observer.rows, lambda row, x: observer.show(row, x[:count]))
        noise = self._noise(filled)
        x: State = noise().astype(self.settings.state_dtype)
        return self.network.walk(self.table, x, self.labels(filled), self._guidance(), noise, seen)[:count]

    def _guidance(self) -> Guidance:
        own, chosen = self.card.guidance, self.settings.cfg_channels
        return own if chosen is None else Guidance(own.null_label, chosen or None)

    def _noise(self, indices: Sequence[int]) -> NoiseSource:
        if self.noise_file is not None:
            return self.noise_file.batch(indices)
        return PhiloxNoise(self.settings.seed, indices, self.card.data.shape)


def resolve_sampler(card: Card, sampler: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The sampler's name and all its options: those given, then the card's, then the sampler's defaults.

    Raises:
        ConfigError: an unknown sampler or option.
    """
    default = card.sampler
    name = sampler or default.name
    # Latents have no range to be clipped to.
    usual: dict[str, Any] = {"clip_x0": False} if card.data.space == "latent" else {}
    given = usual | (default.options if name == default.name else {})
    return name, samplers.resolve(name, given | dict(options))
