"""The laws by which an average follows a network's weights, and the share of the initial weights that they leave."""

from __future__ import annotations

import math
from pathlib import Path

from drun.bundle.average import NOTICEABLE_SHARE, of_initial_weights, percent
from dtrain.config import Ema, Recipe

#: EDM's `ema_rampup_ratio`: the half-life is at most this share of the steps so far.
RAMP_SHARE = 0.05
#: ema-pytorch's `update_after_step`: the warm-up law copies the weights while its counter is at most this, steps.
COPY_STEPS = 100
#: The first version of checkpoints whose averages followed the present warm-up law.
MENDED_IN_VERSION = 2


def decay_at(law: Ema, step: int) -> float | None:
    """The share of the old average that is kept at training step 1, 2, ...; None: no update at this step.

    `ramp`: 2^(-1/h) per step, with the half-life h = 0.05 (step - every), steps, and at most `decay` per update; at
    every multiple of `every`. It is the law of Karras et al. 2022 (EDM), whose half-life is the least of a constant and
    5 % of the images seen before this update. The first update copies the weights.

    `constant`: always `decay`, at every multiple of `every`, as DiT, SiT and REPA train (`every` = 1).

    `warmup`: min(1 - (1 + e)^(-2/3), decay) with e = step - 101 (ema-pytorch 0.3, inverse gamma 1, power 2/3), as the
    aerial-imagery article trains. It acts at the steps 1, 1 + every, 1 + 2 every, ..., for ema-pytorch tests its
    counter before it raises it. It copies the weights (0) while the counter is at most 100, and at one step more,
    where it counts itself as initialised: with every = 10, step 111 is the last copy and 121 the first average.
    """
    if law.law == "warmup":
        elapsed = step - COPY_STEPS - 1
        copies = elapsed <= law.every
        return None if (step - 1) % law.every else 0.0 if copies else min(1 - (1 + elapsed) ** (-2 / 3), law.decay)
    if step % law.every:
        return None
    if law.law == "constant":
        return law.decay
    before = step - law.every
    return min(0.5 ** (law.every / (RAMP_SHARE * before)), law.decay) if before else 0.0


def initial_share(law: Ema, step: int) -> float:
    """The share of the initial weights in the average after `step` training steps, 0 to 1.

    It is the product of `decay_at` over the updates until then: the laws other than `constant` begin with a copy.
    """
    if law.law == "constant":
        return float(law.decay ** (step // law.every))
    return float(step < _first_update(law))


def settled_at(law: Ema) -> int:
    """The first step from which on the average holds at most 1 % of the initial weights."""
    if law.law != "constant" or law.decay <= NOTICEABLE_SHARE:
        return _first_update(law)
    return law.every * math.ceil(math.log(NOTICEABLE_SHARE) / math.log(law.decay))


def _first_update(law: Ema) -> int:
    return 1 if law.law == "warmup" else law.every


def followed_old_law(law: Ema, version: int) -> bool:
    """Whether the average of a checkpoint of this version was made at other steps than `decay_at` says.

    Before version 2 the warm-up law acted at the multiples of `every`, and first averaged at the first one above 101.
    """
    return law.law == "warmup" and version < MENDED_IN_VERSION


# ---- in words -------------------------------------------------------------------------------------------


def early_note(recipe: Recipe, step: int) -> str | None:
    """A note for the start of a run; None unless a checkpoint or a preview comes before the average is settled."""
    train, settled = recipe.train, settled_at(recipe.ema)
    next_look = step + min(every - step % every for every in (train.save_every, train.preview_every, train.steps))
    if next_look >= settled or recipe.objective["name"] == "classify":  # a classifier has no previews
        return None
    end = f", and this run ends at {train.steps:,}" if settled > train.steps else ""
    return (
        f"the average holds more than {percent(NOTICEABLE_SHARE)} of the initial weights until step {settled:,}{end}: "
        "before that look at the online half of a preview, or train with --set ema.law=ramp, which holds none"
    )


def late_note(recipe: Recipe, step: int, path: Path) -> str | None:
    """A note on the last checkpoint of a run; None if its average is settled."""
    note = of_initial_weights(initial_share(recipe.ema, step), step)
    return note and f"the average in '{path}' {note}"
