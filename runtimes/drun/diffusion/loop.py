"""The only sampling loop of the project: it walks a step table, on numpy arrays or torch tensors of any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.ahead import ahead
from drun.diffusion.arrays import (
    Array,
    Coefficient,
    Labels,
    State,
    clip,
    empty,
    interpolated_std,
    magnitude_quantile,
    number,
    on_host,
    scale,
    total,
)
from drun.diffusion.guidance import Guidance, Guided, Predict
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import Clip, Row, StepTable
from drun.errors import NotFiniteError

if TYPE_CHECKING:
    from torch import Tensor

#: Rows between two tests whether the state is finite: each test is a synchronisation with a device.
FINITE_EVERY = 10

#: (x, model time, guidance weight) -> network output, shaped as x, with as many channels again for a learned
#: variance; may be overwritten by the next call
Denoise = Callable[[Array, float, float], Array]
#: the next z ~ N(0, I), shaped as x
DrawNoise = Callable[[], Array]
#: it is called after each row with its index and the state, which must be copied to be kept
OnRow = Callable[[int, Array], None]


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Observer:
    """The functions that watch a walk."""

    progress: Callable[[int], None] = _nothing  # called after each row with how many are done
    rows: Collection[int] = ()  # the rows after which `show` gets the states; -1 is the noise before the first row
    show: Callable[[int, State], None] = _nothing  # row and states, (N, C, H, W), which must be copied to be kept


NOBODY = Observer()


def _unmoved(array: NDArray[Any]) -> NDArray[Any]:
    return array


def walk(
    predict: Predict[Array],
    table: StepTable,
    x: State,
    labels: Labels | None,
    guidance: Guidance,
    noise: NoiseSource,
    observer: Observer = NOBODY,
    put: Callable[[NDArray[Any]], Array] = _unmoved,  # type: ignore[assignment]
) -> State:
    """Carry one batch from noise to images.

    Args:
        predict: the network; it takes and gives arrays as `put` makes them.
        x: (N, C, H, W) initial noise, float32 or float64, which may be overwritten.
        labels: (N,) int64, or None for an unconditional network.
        noise: asked once for each noisy row, in order.
        put: brings an array to where the network computes.

    Returns:
        The final states, (N, C, H, W) of the dtype of x.

    Raises:
        NotFiniteError: a state that is not finite, within ten rows of where it happened.
    """
    guided = Guided(predict, None if labels is None else put(labels), guidance)
    if -1 in observer.rows:
        observer.show(-1, x)

    last = len(table.rows) - 1

    def on_row(row: int, state: Array) -> None:
        if row % FINITE_EVERY == FINITE_EVERY - 1 or row == last:
            check_finite(state, table, row)
        if row in observer.rows:
            observer.show(row, on_host(state))
        observer.progress(row + 1)

    with (
        np.errstate(over="ignore", invalid="ignore"),  # `check_finite` raises an error that explains it
        ahead(noise, table.num_noises, x.size) as draws,
    ):
        return on_host(sample(guided, put(x), table, lambda: put(draws()), on_row))


def check_finite(x: NDArray[Any] | Tensor, table: StepTable, row: int) -> None:
    """Raises NotFiniteError, which names the rows since the last test, if x after `row` is not finite."""
    if math.isfinite(total(x)):
        return
    raise not_finite(table, row - row % FINITE_EVERY, row)


def not_finite(table: StepTable, first: int, last: int) -> NotFiniteError:
    """The error of a state that became NaN or infinite in the rows `first` to `last`."""
    return NotFiniteError(
        f"the images are not finite between steps {first + 1} and {last + 1} of {len(table.rows)} "
        f"(t = {table.rows[first].t:g} to {table.rows[last].t:g}): try --precision fp32, clip_x0=true or another grid"
    )


def sample(
    denoise: Denoise[Array],
    x: Array,
    table: StepTable,
    draw_noise: DrawNoise[Array],
    on_row: OnRow[Array] | None = None,
) -> Array:
    """The loop itself: carry x from noise to an image, in place.

    Args:
        denoise: the guided network.
        x: (N, C, H, W) initial noise, overwritten; its dtype is the state's dtype.
        table: rows as in `drun.diffusion.table`.
        draw_noise: asked once for each noisy row, in order.

    Returns:
        x, the final state, unclipped unless the table clips.
    """
    channels, scratch = x.shape[1], empty(x.shape, like=x)
    newest_first = [empty(x.shape, like=x) for _ in range(table.history + 1)]
    clipped, bounds = table.clip, (number(-1.0, x), number(1.0, x))
    # These are made before the loop: after a network call, the processor's caches hold none of Python's objects any
    # more.
    weights = [_Weights.of(row, x) for row in table.rows]
    for i, (row, by) in enumerate(zip(table.rows, weights, strict=True)):
        h = newest_first.pop()
        newest_first.insert(0, h)
        output = denoise(x, row.t, row.w)
        scale(output if output.shape[1] == channels else output[:, :channels], by.q, h)
        if row.p != 0:
            _add(h, by.p, x, scratch)
        if clipped is not None:
            _clip(h, clipped, bounds)
        scale(x, by.a, x)
        _add(x, by.b, h, scratch)
        for weight, h_previous in zip(by.d, newest_first[1:], strict=False):
            _add(x, weight, h_previous, scratch)
        if row.c != 0:
            _add(x, by.c, draw_noise(), scratch)
        elif row.log_variance is not None:
            x += interpolated_std(output[:, channels:], *row.log_variance) * draw_noise()
        if on_row is not None:
            on_row(i, x)
    return x


class _Weights(NamedTuple):
    """The coefficients of a row as `number` makes them."""

    p: Coefficient
    q: Coefficient
    a: Coefficient
    b: Coefficient
    c: Coefficient
    d: tuple[Coefficient, ...]

    @classmethod
    def of(cls, row: Row, like: NDArray[Any] | Tensor) -> _Weights:
        p, q, a, b, c = (number(value, like) for value in (row.p, row.q, row.a, row.b, row.c))
        return cls(p, q, a, b, c, tuple(number(value, like) for value in row.d))


def _add(x: Array, weight: Coefficient, y: Array, scratch: Array) -> None:
    """x += weight y without a new array."""
    scale(y, weight, scratch)
    x += scratch


def _clip(h: Array, rule: Clip, bounds: tuple[Coefficient, Coefficient]) -> None:
    if rule.dynamic_quantile == 0:
        return clip(h, *bounds)
    highest = magnitude_quantile(h, rule.dynamic_quantile).clip(1.0)
    for image, bound in zip(h, highest.reshape(-1).tolist(), strict=True):
        clip(image, -bound, bound)
    h /= highest
