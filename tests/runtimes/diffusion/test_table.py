"""What a step table promises, whatever the sampler."""

from __future__ import annotations

import pytest

from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import Clip, Row, Step, StepTable, assemble
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
