"""Images of the arms from the same noise at equal steps."""

from __future__ import annotations

import numpy as np

from dbench.core.record import Result
from dbench.suites.repa import drawing, plan, plots, rows, training
from dbench.suites.repa.plan import LABELS, PLAIN
from dbench.suites.repa.settings import RepaSettings
from drun.run.images import UInt8, grid
from dtrain import published
from dtrain.checkpoints import ours as checkpoint

#: Images of a line.
COUNT = 16
#: Between the steps, pixels: white.
GAP = 4


def samples(settings: RepaSettings, result: Result) -> UInt8:
    """For each target step a line of every arm, of the first seed: (H, W, C)."""
    seed = settings.seeds[0]
    recipe = plan.plain_recipe(settings, seed)
    device = training.placement_of(recipe).device
    groups = []
    for step in rows.target_steps(plots.read_curves(result, plots.kinds(result)[0], PLAIN)[0].steps):
        lines = []
        for arm in LABELS:
            denoiser = published.load(checkpoint.path_at(plan.folder_of(settings, arm, seed), recipe, step))
            lines.append(drawing.draw(denoiser, range(COUNT), settings.sampling_steps, device))
        groups.append(grid(np.concatenate(lines), COUNT))
    white = np.full((GAP, *groups[0].shape[1:]), 255, np.uint8)
    parts = [part for group in groups for part in (group, white)]
    return np.concatenate(parts[:-1])
