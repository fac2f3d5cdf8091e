"""The loss of a quantised graph: how far its final images are from those of the graph that it was made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dexport.quantisation.states import settings_of
from drun.bundle.artifact import Loss
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.diffusion.loop import Observer
from drun.errors import ExportError
from drun.run import parity
from drun.run.opening import Candidate, Opened, open_candidate
from drun.run.sampling import Sampling

NUM_IMAGES = 16
#: Neither the golden file's seed nor the one that ranges were measured on.
SEED = 22


def loss_of(bundle: Bundle, opened: Opened, report: Report) -> Loss:
    """Draw images by the bundle's own sampler on the same noise, quantised and in float32 on the same backend.

    Those of a latent model are compared as latents.

    Args:
        opened: a quantised artifact of the bundle, which also holds the graph that it was derived from.

    Raises:
        NotFiniteError: either graph draws numbers that are not finite. ExportError: in float32 all images are one
        constant, which nothing can be compared with.
    """
    assert opened.artifact is not None
    settings = settings_of(bundle.manifest.card, SEED)
    source = next(one for one in bundle.manifest.artifacts if one.files[0].sha256 == opened.artifact.derived_from)
    with open_candidate(bundle, Candidate(opened.name, source, source.precision), opened.backend.options) as exact:
        expected = _drawn(Sampling(bundle.manifest.card, exact, settings), exact, "drawing in fp32", report)
    got = _drawn(Sampling(bundle.manifest.card, opened, settings), opened, "drawing in int8", report)
    psnr_db = parity.compare("final images", expected, got, math.inf).psnr_db
    squares = np.square(got - expected).mean(axis=(1, 2, 3))
    if psnr_db != math.inf and not math.isfinite(psnr_db):
        raise ExportError(f"the images of {source.id} are one constant, expected pictures: train the network first")
    # JSON knows no infinity, which is the PSNR of equal images.
    if psnr_db == math.inf:
        own = worst = None
    else:
        own, worst = psnr_db, psnr_db - 10 * math.log10(squares.max() / squares.mean())
    return Loss(psnr_db=own, worst_db=worst, images=NUM_IMAGES, steps=settings.num_steps, sampler=settings.sampler)


def _drawn(sampling: Sampling, opened: Opened, what: str, report: Report) -> NDArray[np.float32]:
    """The final states, (NUM_IMAGES, C, H, W)."""
    size, num_rows = min(8, opened.largest_batch(sampling.table)), len(sampling.table.rows)
    parts = [range(start, min(start + size, NUM_IMAGES)) for start in range(0, NUM_IMAGES, size)]
    drawn = []
    for number, part in enumerate(parts):
        before = number * num_rows
        seen = Observer(lambda done, before=before: report(what, before + done, len(parts) * num_rows))  # type: ignore[misc]
        drawn.append(sampling.draw(part, seen))
    return np.concatenate(drawn)
