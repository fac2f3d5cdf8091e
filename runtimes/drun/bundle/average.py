"""How much averaged weights (EMA) still hold of the weights that training began with, in words."""

from __future__ import annotations

#: A network with more of its random initial weights than this draws noise.
NOTICEABLE_SHARE = 0.01


def of_initial_weights(share: float | None, step: int | None) -> str | None:
    """The words that follow "the average", with the remedy; None if the share is at most 1 %, or unknown.

    Args:
        share: the share of the initial weights in the average, 0 to 1.
        step: training steps so far.
    """
    if share is None or share <= NOTICEABLE_SHARE:
        return None
    return (
        f"still holds {percent(share)} of the initial weights at step {step or 0:,} and may draw noise: export "
        "--weights online, train longer, or train with --set ema.law=ramp"
    )


def percent(share: float) -> str:
    """0.2215 -> `22.2 %`."""
    return f"{100 * share:.3g} %"
