"""What a step table promises, whatever the sampler."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from drun.diffusion import samplers
from drun.diffusion.guidance import with_guidance
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import Clip, LogVariance, Row, Step, StepTable, TableColumns, assemble
from drun.errors import ConfigError

PROCESS = DiscreteProcess("linear")


def test_counts_of_noises_and_history() -> None:
    rows = (Row(2, 0, 1, 1, 1, c=0.5), Row(1, 0, 1, 1, 1, d=(0.1, 0.2)), Row(0, 0, 1, 1, 1, c=-0.5))
    table = StepTable(rows)
    assert table.num_noises == 2
    assert table.history == 2


def test_without_clip_and_history_the_clean_image_is_eliminated() -> None:
    row = assemble(PROCESS, "noise", [Step(500, a=0.3, b=0.7)]).rows[0]
    alpha, sigma = float(PROCESS.alpha(500)), float(PROCESS.sigma(500))
    assert (row.p, row.q) == (0.0, 1.0)
    assert row.a == pytest.approx(0.3 + 0.7 / alpha)
    assert row.b == pytest.approx(-0.7 * sigma / alpha)


@pytest.mark.parametrize("step", [Step(500, a=0.3, b=0.7), Step(500, a=0.3, b=0.7, d=(0.1,))])
def test_with_clip_or_history_it_is_kept(step: Step) -> None:
    row = assemble(PROCESS, "noise", [step], None if step.d else Clip()).rows[0]
    alpha, sigma = float(PROCESS.alpha(500)), float(PROCESS.sigma(500))
    assert (row.a, row.b, row.d) == (0.3, 0.7, step.d)
    assert (row.p, row.q) == pytest.approx((1 / alpha, -sigma / alpha))


def test_unknown_prediction_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown prediction 'flow'"):
        assemble(PROCESS, "flow", [Step(0, 0.0, 1.0)])


def rows_of(columns: TableColumns) -> list[Row]:
    """The rows again, but for the beginnings of steps, and with every history at its full length."""

    def bounds(low: float, high: float) -> LogVariance | None:
        return None if np.isnan(low) else (low, high)

    scalars = zip(*(getattr(columns, name).tolist() for name in ("t", "p", "q", "a", "b", "c", "w")), strict=True)
    arrays = zip(columns.d.tolist(), columns.log_variance.tolist(), strict=True)
    return [
        Row(t, p, q, a, b, c, tuple(d), bounds(*log_variance), w=w)
        for (t, p, q, a, b, c, w), (d, log_variance) in zip(scalars, arrays, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "options", "history"),
    [
        ("ddpm", {"variance": "learned_range"}, 0),
        ("ddpm", {}, 0),
        ("ddim", {"eta": 0.3, "clip_x0": False}, 0),
        ("heun", {}, 1),
        ("dpmpp_2m", {"clip_x0": True}, 1),
    ],
)
def test_columns_hold_the_rows(name: str, options: dict[str, object], history: int) -> None:
    table = samplers.step_table(name, PROCESS, "noise", 7, options, "learned_range")
    table = with_guidance(table, 2.5, (100, 700))
    columns = table.columns()
    assert columns.d.shape == (len(table.rows), history)
    assert {array.dtype for array in vars(columns).values()} == {np.dtype(np.float64), np.dtype(np.bool_)}
    assert columns.noisy.tolist() == [row.noisy for row in table.rows]
    assert columns.noisy.sum() == table.num_noises
    padded = [replace(row, d=(*row.d, *[0.0] * (history - len(row.d))), step_t=None) for row in table.rows]
    assert rows_of(columns) == padded


def test_columns_of_rows_of_every_kind() -> None:
    """Noise, two earlier estimates, a learned variance, nothing."""
    rows = (
        Row(3, 0, 1, 1, 1, c=-0.5, w=1.5),
        Row(2, 0.5, 2, 3, 4, d=(0.1, 0.2)),
        Row(1, 0, 1, 1, 1, log_variance=(-3.0, -2.0)),
        Row(0, 0, 1, 0, 1, d=(0.3,)),
    )
    columns = StepTable(rows).columns()
    assert columns.d.tolist() == [[0, 0], [0.1, 0.2], [0, 0], [0.3, 0]]
    assert columns.noisy.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(columns.log_variance, [[np.nan] * 2, [np.nan] * 2, [-3, -2], [np.nan] * 2])
    assert [array.tolist() for array in (columns.t, columns.p, columns.w)] == [
        [3, 2, 1, 0], [0, 0.5, 0, 0], [1.5, 1, 1, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "step",
    [
        Step(500, a=math.inf, b=0.0),
        Step(500, a=1.0, b=0.0, d=(math.nan,)),
        Step(500, a=1.0, b=0.0, c=math.nan),
        Step(500, a=1.0, b=0.0, log_variance=(-math.inf, 0.0)),
    ],
)
def test_a_coefficient_that_is_not_finite_is_refused(step: Step) -> None:
    with pytest.raises(ConfigError, match="the step at time 500 has no finite coefficients"):
        assemble(PROCESS, "noise", [step], variance="learned_range")


def test_a_step_written_for_the_velocity_is_not_clipped() -> None:
    step = Step(500, a=1.0, b=0.5, estimate="velocity")
    with pytest.raises(ConfigError, match="follows the velocity cannot be clipped"):
        assemble(PROCESS, "velocity", [step], Clip())
    row = assemble(PROCESS, "velocity", [step]).rows[0]
    assert (row.p, row.q, row.a, row.b) == (0.0, 1.0, 1.0, 0.5)
