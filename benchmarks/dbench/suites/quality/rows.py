"""The rows of the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core import timing
from dbench.core.record import ResultRow, spread_row
from dbench.quality.features import Extractor, Features
from dbench.quality.neighbours import nearest, some, typical_distance
from dbench.quality.scale import Distances

Indices = NDArray[np.int64]

SUITE = "quality"
#: Names of rows that the report speaks of.
SAMPLES, REAL, NOISE = "samples to real images", "other real images to real images", "noise to real images"
POSITION, NEARER = "samples on the way from real to noise", "samples nearer to a real image than those to each other"
MIXTURE = "samples that would have to change class to have the real images' mixture"
#: Classes may differ up to here by the way in which the images were collected.
MIXTURE_PERCENT = 20.0
#: Divisor of the number of images that the finest features need: with fewer, on pixels
#: coarser than 4x4 instead of 8x8, a distance tells nothing of what is shown.
FEWEST_IMAGES = 4
#: Samples in the picture, and real images beside each sample.
NUM_SHOWN, NUM_NEIGHBOURS = 8, 5


def distance_rows(
    distances: Distances, extractor: Extractor, finest: Extractor, against: str, lack: str
) -> list[ResultRow]:
    """Spreads come from random choices, and samples as good as real images lie around 0 %, so only `lack` is a doubt.

    against: the real images in words. lack: the images that the finest features need, empty if there are enough.
    """
    named = {SAMPLES: distances.samples, REAL: distances.real, NOISE: distances.noise}
    rows = [_judged(name, values, extractor.unit, lack) for name, values in named.items()]
    if FEWEST_IMAGES * extractor.num_images < finest.num_images:
        return [*rows, ResultRow(SUITE, POSITION, None, "%", doubt=lack)]
    headline = "" if lack else f"of the way from {against} to noise, by Fréchet distance on {extractor.name}"
    return [*rows, _judged(POSITION, distances.position, "%", lack, headline=headline)]


def _judged(name: str, values: Features, unit: str, doubt: str, **fields: Any) -> ResultRow:
    return spread_row(SUITE, name, timing.spread(values.tolist()), unit, doubt=doubt, **fields)


def nearer_row(samples: Features, real: Features, drawn: Indices, chosen: Indices) -> ResultRow:
    """The share of likely copies; its details name samples, the nearest ones first, with their nearest real images.

    drawn, chosen: the numbers of these samples and real images, (N,) and (M,).
    """
    asked = some(len(samples))
    distances = nearest(samples[asked], real, 1).distances[:, 0]
    shown = asked[np.argsort(distances, kind="stable")[_ranks(len(asked))]]
    beside = nearest(samples[shown], real, min(NUM_NEIGHBOURS, len(real))).indices
    pairs = [[int(drawn[i]), chosen[near].tolist()] for i, near in zip(shown, beside, strict=True)]
    share = float(np.mean(distances < typical_distance(real)))
    return ResultRow(SUITE, NEARER, 100 * share, "%", details={"nearest": pairs})


def _ranks(num: int) -> Indices:
    """At most NUM_SHOWN of 0..num - 1: the first ones, and then at growing distances up to the last."""
    return np.unique(np.rint(np.geomspace(1, num, NUM_SHOWN)).astype(np.int64)) - 1


def renumbered(labels: Indices, names: Sequence[str], wanted: Sequence[str]) -> Indices:
    """Labels of the classes `names` as labels of the classes `wanted`; other classes get labels after these."""
    numbers = {name: number for number, name in enumerate(wanted)}
    return np.array([numbers.get(name, len(wanted) + i) for i, name in enumerate(names)])[labels]


def mixture_rows(samples: Indices, real: Indices) -> list[ResultRow]:
    """The total variation between the labels of both, (N,) and (M,), if it is more than chance explains.

    N labels drawn from K shares differ from these by at most sqrt((K - 1) / N) / 2 in the mean (by Cauchy-Schwarz).
    """
    count = int(max(samples.max(), real.max())) + 1
    a, b = (np.bincount(labels, minlength=count) / len(labels) for labels in (samples, real))
    percent, chance = float(50 * np.abs(a - b).sum()), 50 * math.sqrt((count - 1) / len(samples))
    return [ResultRow(SUITE, MIXTURE, percent, "%")] if percent > max(MIXTURE_PERCENT, chance) else []
