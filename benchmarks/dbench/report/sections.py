"""The parts of a page that do not come from a suite."""

from __future__ import annotations

import numpy as np

from dbench.core import captions, record
from dbench.core.record import number, shown_command
from dbench.html import chart, page
from dbench.report.sources import Drawn, Material, Training, present
from drun.bundle.average import of_initial_weights
from drun.console import warn
from drun.errors import DataError, UserError
from drun.run import images
from drun.run.assembly import GRID_IMAGES
from drun.run.images import UInt8

SEED = 0
#: Channels of the images behind latents.
RGB = 3
UNPROVEN = (
    "The run does not hold the checkpoint that the bundle was exported from, so nothing proves that they belong "
    "together."
)


def training(run: Training) -> str:
    """The loss over the steps."""
    smooth = chart.running_median(run.losses)
    text = f"The loss goes from {number(run.losses[0])} to {number(smooth[-1])} in {run.steps[-1]:,} steps."
    svg = chart.loss_curve(run.steps, run.losses, f"Loss curve. {text}")
    every = run.recipe["train"]["log_every"]
    caption = f"{text} Thin: the mean of each {every} steps; thick: running median of {chart.WINDOW} of them."
    doubt = [] if run.is_proven else [page.paragraph(UNPROVEN)]
    return page.section("Training", *doubt, page.figure(svg, caption))


# ---- samples --------------------------------------------------------------------------------------------


def samples(material: Material, drawn: Drawn) -> str:
    """The grid of samples, beside the real images of the run if they are there."""
    checkpoint = material.bundle.manifest.model.checkpoint
    count = min(int(drawn.run["num_images"]), GRID_IMAGES)
    how = f"{count} samples, {captions.drawn(drawn.run['settings'], captions.weights(checkpoint))}"
    grid = page.image(present(drawn.folder / "grid.png"), f"Grid of {how}")
    figures = [page.figure(grid, f"Drawn: {how}.")]
    if material.training is not None and (real := _real(material, count)) is not None:
        words = f"{len(real)} of the training images, chosen at random"
        figures.append(page.figure(page.image(images.grid(real), f"Grid of {words}"), f"Real: {words}."))
    moving = []
    if material.animation is not None:
        film = page.image(material.animation, "Animation of samples forming from noise")
        caption = "The sampler's state of the first of these samples, step by step."
        moving = [page.subheading("From noise to image"), page.figure(film, caption)]
    heading = "Samples beside real images" if len(figures) > 1 else "Samples"
    note = of_initial_weights(checkpoint.get("initial_share"), checkpoint["step"])
    doubt = [page.paragraph(f"The average of the weights {note}.")] if note else []
    return page.section(heading, *doubt, page.side_by_side(*figures), *moving)


def _real(material: Material, count: int) -> UInt8 | None:
    card, run = material.bundle.manifest.card, material.training
    assert run is not None
    try:
        return read_real(run, count, card.data.shape[0] if card.data.space == "pixel" else RGB)
    except (UserError, ImportError) as error:  # the digits need scikit-learn
        warn(f"the report shows no real images: {error}")
        return None


def read_real(run: Training, count: int, channels: int) -> UInt8:
    """A fixed random choice of the images that a run was trained on: (count, H, W, channels) uint8.

    Raises:
        UserError: the images are no longer there, or have changed.
    """
    from dtrain.data.pixels import fingerprint, load_images

    data = run.recipe["data"]
    size = int(data["image_size"])
    real = load_images(data["source"], size, channels)
    if data.get("fingerprint") not in (None, "", fingerprint(real)):
        raise DataError(f"'{data['source']}' no longer holds the images that the run was trained on")
    chosen = np.random.default_rng(SEED).permutation(len(real))[:count]
    return real[np.sort(chosen)].reshape(-1, size, size, channels)


# ---- conditions -----------------------------------------------------------------------------------------


def conditions(material: Material) -> str:
    """The versions that made everything, and the machines that measured it."""
    manifest, drawn = material.bundle.manifest, material.drawn
    checkpoint = manifest.model.checkpoint
    made = {
        "checkpoint": f"{checkpoint['file']}, sha256 {checkpoint['sha256']}",
        "bundle": f"{material.bundle.name}, sha256 {material.bundle.sha256}, made by {manifest.created_by}",
    }
    if drawn is not None:
        made |= {
            "samples": f"{drawn.folder.resolve().name}, sha256 {drawn.samples_sha256}",
            "sampled by": shown_command(drawn.run.get("command", [])),
            "sampled on": ", ".join([drawn.run["machine"], *(f"{k} {v}" for k, v in drawn.run["versions"].items())]),
        }
    parts = [page.facts(made)]
    for result in material.results:
        parts.append(page.subheading(f"dbench {result.suite}: {result.subject['name']}"))
        parts.append(page.facts(record.conditions(result.machine) | {"command": result.command}))
    return page.section("Conditions", *parts)
