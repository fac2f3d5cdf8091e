"""The only sampling loop of the project: it walks a step table, on numpy arrays or torch tensors of any device."""

from __future__ import annotations

from collections.abc import Callable

from drun.diffusion.arrays import Array, clip, empty, interpolated_std, magnitude_quantile, scale
from drun.diffusion.table import Clip, StepTable

#: (x, model time, guidance weight) -> network output, shaped as x, with as many channels again for a learned
#: variance; may be overwritten by the next call
Denoise = Callable[[Array, float, float], Array]
#: the next z ~ N(0, I), shaped as x
DrawNoise = Callable[[], Array]
#: called after each row with its index and the state, which must be copied to be kept
OnStep = Callable[[int, Array], None]


def sample(denoise: Denoise, x: Array, table: StepTable, draw_noise: DrawNoise, on_step: OnStep | None = None) -> Array:
    """Carry x from noise to an image, in place.

    Args:
        denoise: the guided network.
        x: (N, C, H, W) initial noise, overwritten; its dtype is the state's dtype.
        table: rows as in `drun.diffusion.table`.
        draw_noise: asked once for each noisy row, in order.
        on_step: progress, trajectories, guards.

    Returns:
        x, the final state, unclipped unless the table clips.
    """
    scratch = empty(x.shape, like=x)
    newest_first = [empty(x.shape, like=x) for _ in range(table.history + 1)]
    for i, row in enumerate(table.rows):
        newest_first.insert(0, newest_first.pop())
        h = newest_first[0]
        output = denoise(x, row.t, row.w)
        scale(output[:, : x.shape[1]], row.q, out=h)
        if row.p != 0:
            _add(h, row.p, x, scratch)
        if table.clip is not None:
            _clip(h, table.clip)
        x *= row.a
        _add(x, row.b, h, scratch)
        for weight, h_previous in zip(row.d, newest_first[1:], strict=False):
            _add(x, weight, h_previous, scratch)
        if row.c != 0:
            _add(x, row.c, draw_noise(), scratch)
        elif row.log_variance is not None:
            x += interpolated_std(output[:, x.shape[1] :], *row.log_variance) * draw_noise()
        if on_step is not None:
            on_step(i, x)
    return x


def _add(x: Array, weight: float, y: Array, scratch: Array) -> None:
    """x += weight y without a new array."""
    scale(y, weight, out=scratch)
    x += scratch


def _clip(h: Array, rule: Clip) -> None:
    if rule.dynamic_quantile == 0:
        return clip(h, 1.0)
    bounds = magnitude_quantile(h, rule.dynamic_quantile).clip(1.0)
    for image, bound in zip(h, bounds.reshape(-1), strict=True):
        clip(image, float(bound))
    h /= bounds
