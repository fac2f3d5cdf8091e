"""How real are the samples? Their Fréchet distance to real images, on a scale from other real images to noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core import machine, subject
from dbench.core.record import Result, ResultRow, this_command
from dbench.quality import features, scale
from dbench.quality.features import Extractor, Features, extract
from dbench.quality.neighbours import some
from dbench.quality.reference import Reference, open_reference
from dbench.quality.samples import Samples, open_samples
from dbench.suites.quality import rows
from dbench.suites.quality.judgement import NEIGHBOURS
from dbench.suites.quality.settings import QualitySettings
from drun.console import Report, warn
from drun.errors import DataError
from drun.run.images import UInt8, grid

SEED = 0
#: The most samples and the most real images that are compared, chosen at random, so that their features fit into
#: memory.
MAX_IMAGES = 65_536


@dataclass(frozen=True)
class Pair:
    """The compared sets: the samples and the real images, or a random choice if they are too many."""

    samples: Samples
    reference: Reference
    drawn: NDArray[np.int64]
    chosen: NDArray[np.int64]

    @property
    def set_size(self) -> int:
        return scale.set_size(len(self.drawn), len(self.chosen))

    def features(self, extractor: Extractor) -> tuple[Features, Features]:
        """Features of the samples, (N, D), and of the real images, (M, D)."""
        images, shape = self.samples.images, self.reference.shape
        return (
            extract(extractor, lambda part: images[self.drawn[part]], len(self.drawn), shape),
            extract(extractor, lambda part: self.reference.read(self.chosen[part]), len(self.chosen), shape),
        )


def measure(settings: QualitySettings, report: Report) -> Result:
    """Compare the samples, other real images and noise with real images, and look for copies.

    Raises:
        ConfigError: nothing says what to compare with. DataError: an input cannot be read, or holds too few images.
    """
    pair = _open(settings, report)
    extractor = features.choose(settings.features, pair.set_size, pair.reference.shape)
    finest = features.choose(settings.features, None, pair.reference.shape)
    noise = extract(extractor, _noise(pair.reference.shape), pair.set_size, pair.reference.shape)
    compared = pair.features(extractor)
    distances = scale.measure(*compared, noise, settings.splits, report)
    lack = _lack(pair, finest)
    found = rows.distance_rows(distances, extractor, finest, pair.reference.title, lack)
    report("looking for copies", 0, 1)
    seen = compared if extractor == finest else pair.features(finest)
    found += [rows.nearer_row(*seen, pair.drawn, pair.chosen), *_mixture_rows(pair)]
    report("looking for copies", 1, 1)
    if lack:
        warn(f"the distance is on {extractor.name} only, which tells little: {lack}; {_remedy(pair, finest)}")
    resolved = {
        "samples": pair.samples.name,
        "reference": pair.reference.name,
        "real_images": len(pair.chosen),
        "images_a_set": pair.set_size,
        "splits": settings.splits,
        "distance_on": extractor.name,
        "neighbours_by": finest.name,
    }
    return Result(tuple(found), _subject(pair), resolved, machine.fingerprint(), this_command())


def pictures(settings: QualitySettings, result: Result) -> dict[str, UInt8]:
    """File name without suffix -> picture: samples, the nearest to real images first, each beside its nearest ones."""
    samples = open_samples(settings.samples)
    reference = open_reference(settings.reference, samples)
    gap = np.full((1, *reference.shape), 255, np.uint8)
    tiles, beside = [], result.row(rows.NEARER).details["nearest"]
    for sample, nearest in beside:
        tiles += [samples.images[[sample]], gap, reference.read(np.array(nearest))]
    return {NEIGHBOURS: grid(np.concatenate(tiles), 2 + len(beside[0][1]))}


def _open(settings: QualitySettings, report: Report) -> Pair:
    samples = open_samples(settings.samples, report)
    reference = open_reference(settings.reference, samples, report, warn)
    if reference.num_images < 4:
        raise DataError(
            f"'{reference.name}' holds {reference.num_images} images, of which half are compared with the others: "
            "expected at least 4, better twice as many as samples"
        )
    return Pair(samples, reference, some(len(samples.images), MAX_IMAGES), some(reference.num_images, MAX_IMAGES))


def _noise(shape: tuple[int, int, int]) -> Callable[[slice], UInt8]:
    """Uniform noise, which must be read once and in order."""
    generator = np.random.default_rng(SEED)
    return lambda part: generator.integers(0, 256, (part.stop - part.start, *shape), np.uint8)


def _mixture_rows(pair: Pair) -> list[ResultRow]:
    """How far the classes of both sides differ, if it is far: a Fréchet distance includes this difference."""
    drawn, classes = pair.samples.labels(), pair.samples.classes
    if drawn is None or classes is None:
        return []  # for any labels of the real images
    real, names = pair.reference.labels()
    if real is None:
        return []
    if names and classes.names:  # two folders number their classes each in its own way
        real = rows.renumbered(real, names, classes.names)
    found = rows.mixture_rows(drawn, real)
    if found:
        held, shown = (len(np.unique(labels)) for labels in (real, drawn))
        warn(
            f"of the {held} classes of '{pair.reference.name}' the samples show {shown}, in other shares, and the "
            "distance counts that: draw without --labels, or give images of the same classes as --reference"
        )
    return found


def _lack(pair: Pair, finest: Extractor) -> str:
    """How many images the finest features need where there are too few, in words; else empty."""
    size, found = finest.num_images, []
    if (held := len(pair.drawn)) < size:
        found.append(f"{size:,} samples (here are {held:,})")
    if (held := len(pair.chosen)) < 2 * size:
        found.append(f"{2 * size:,} real images (here are {held:,})")
    return f"{finest.name} need {' and '.join(found)}" if found else ""


def _remedy(pair: Pair, finest: Extractor) -> str:
    """What to do about too few images."""
    size, advice = finest.num_images, []
    if len(pair.drawn) < size:
        advice.append(f"draw samples with 'drun --bundle BUNDLE -n {size} --out DIR'")
    if len(pair.chosen) < 2 * size:
        advice.append(f"give at least {2 * size:,} real images")
    return " and ".join(advice)


def _subject(pair: Pair) -> dict[str, Any]:
    """The subject of the measurement, by content."""
    samples, reference = pair.samples, pair.reference
    ties = subject.of_samples(samples.file, samples.record) if samples.file.is_file() else {}
    seen = {
        "source": reference.name,
        "num_images": reference.num_images,
        "fingerprint": reference.fingerprint,
        "learned": reference.learned,
    }
    return ties | {
        "name": samples.name,
        "num_samples": len(samples.images),
        "reference": seen,
        "run": samples.settings,
    }
