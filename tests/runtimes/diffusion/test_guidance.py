"""Classifier-free guidance against its formula, with every network call counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drun.diffusion.guidance import Guidance, Guided, with_guidance
from drun.diffusion.loop import sample
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.samplers import step_table
from drun.diffusion.table import StepTable
from drun.errors import ConfigError

SHAPE = (3, 4, 2, 2)
LABELS = np.array([1, 5, 2])
NULL = 9


class Network:
    """A function of image, time and label that remembers the batches it was called with."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.times: list[float] = []

    def value(self, x: Any, t: float, label: int) -> Any:
        return x * (0.1 * label) + 0.01 * t

    def __call__(self, x: Any, t: float, labels: Any) -> Any:
        self.batches.append(len(x))
        self.times.append(t)
        if labels is None:
            return self.value(x, t, 1)
        return np.stack([self.value(image, t, int(label)) for image, label in zip(x, labels, strict=True)])


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE)


def by_formula(network: Network, x: np.ndarray, t: float, w: float, channels: int | None = None) -> np.ndarray:
    """m_u + w (m_c - m_u) on the first channels, m_c on the rest."""
    m_c = np.stack([network.value(image, t, int(label)) for image, label in zip(x, LABELS, strict=True)])
    m_u = network.value(x, t, NULL)
    guided = m_u + w * (m_c - m_u)
    k = SHAPE[1] if channels is None else channels
    return np.concatenate([guided[:, :k], m_c[:, k:]], axis=1)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.8, 7.5])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_the_formula(x: np.ndarray, w: float, channels: int | None) -> None:
    network = Network()
    guided = Guided(network, LABELS, Guidance(NULL, channels))
    for _ in range(2):  # the second call meets the arrays of the first
        np.testing.assert_allclose(guided(x, 12.0, w), by_formula(network, x, 12.0, w, channels), rtol=1e-12)
    assert network.batches == [6, 6]


def test_weight_1_is_one_undoubled_conditional_call(x: np.ndarray) -> None:
    network = Network()
    np.testing.assert_array_equal(Guided(network, LABELS, Guidance(NULL))(x, 3.0, 1.0), network(x, 3.0, LABELS))
    assert network.batches == [3, 3]


def test_without_labels_there_is_nothing_to_guide(x: np.ndarray) -> None:
    network = Network()
    Guided(network)(x, 3.0, 4.0)
    assert network.batches == [3]


def test_the_state_is_not_touched(x: np.ndarray) -> None:
    before = x.copy()
    Guided(Network(), LABELS, Guidance(NULL))(x, 3.0, 2.0)
    np.testing.assert_array_equal(x, before)


def test_guidance_of_torch_tensors(x: np.ndarray) -> None:
    def predict(x: Any, t: float, labels: Any) -> Any:
        return x * (0.1 * labels.double().reshape(-1, 1, 1, 1)) + 0.01 * t

    got = Guided(predict, torch.from_numpy(LABELS), Guidance(NULL, 3))(torch.from_numpy(x), 12.0, 1.8)
    np.testing.assert_allclose(got.numpy(), by_formula(Network(), x, 12.0, 1.8, 3), rtol=1e-12)


TABLE = step_table("ddim", DiscreteProcess("linear"), "noise", 10)  # times 999, 899, ..., 99


@pytest.mark.parametrize(
    ("interval", "guided_times"),
    [
        (None, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        ((299, 499), [499, 399, 299]),
        ((299.5, 498.5), [399]),
        ((0, 50), []),
        ((899, 899), [899]),
    ],
)
def test_the_interval_is_closed(interval: tuple[float, float] | None, guided_times: list[float]) -> None:
    rows = with_guidance(TABLE, 2.5, interval).rows
    assert [row.t for row in rows if row.w == 2.5] == guided_times
    assert {row.w for row in rows} <= {1.0, 2.5}


def test_network_calls_of_a_run(x: np.ndarray) -> None:
    """Doubled inside the interval, one undoubled call outside."""
    network = Network()
    table = with_guidance(TABLE, 2.5, (299, 499))
    sample(Guided(network, LABELS, Guidance(NULL)), x, table, np.empty)
    assert network.times == [row.t for row in table.rows]
    assert network.batches == [3, 3, 3, 3, 3, 6, 6, 6, 3, 3]


def test_weights_do_not_change_the_rest_of_the_table() -> None:
    assert with_guidance(with_guidance(TABLE, 3.0), 1.0) == StepTable(TABLE.rows, TABLE.clip)


def test_an_interval_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="interval 5,1 is empty: write the smaller time first"):
        with_guidance(TABLE, 2.0, (5, 1))


def count_forwards(table: StepTable) -> int:
    """Sample-forwards of one image."""
    batches = []

    def predict(x: np.ndarray, t: float, y: np.ndarray | None) -> np.ndarray:
        batches.append(len(x))
        return np.tanh(x + t)

    labels = np.zeros(1, np.int64)
    sample(Guided(predict, labels, Guidance(10)), np.ones((1, 4, 2, 2)), table, lambda: np.zeros((1, 4, 2, 2)))
    return sum(batches)


def test_repas_interval_costs_422_forwards_of_500() -> None:
    table = step_table("euler_maruyama", FlowProcess(), "velocity", 250)
    assert count_forwards(with_guidance(table, 1.8)) == 500
    guided = with_guidance(table, 1.8, (0.0, 0.7))
    assert count_forwards(guided) == 422
    first = next(i for i, row in enumerate(guided.rows) if row.w != 1)
    assert (first, round(guided.rows[first].t, 5)) == (78, 0.69928)


def test_an_interval_includes_its_ends_in_spite_of_rounding() -> None:
    """0.7 lies on the grid of 250 even steps: 175 guided ones (facts 3.1)."""
    table = with_guidance(step_table("euler", FlowProcess(), "velocity", 250), 1.8, (0.0, 0.7))
    assert sum(row.w != 1 for row in table.rows) == 175


def test_three_channel_guidance_leaves_the_fourth_and_the_variance() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 3))

    def predict(x: np.ndarray, t: float, y: np.ndarray | None) -> np.ndarray:
        assert y is not None
        return np.concatenate([x, 2 * x], axis=1) + y.reshape(-1, 1, 1, 1)

    labels = np.array([3, 5])
    shift = np.array([3.0, 5.0]).reshape(2, 1, 1)
    three = Guided(predict, labels, Guidance(10, channels=3))(x, 0.5, 4.0)
    both = Guided(predict, labels, Guidance(10))(x, 0.5, 4.0)
    for got, guided in ((three, 3), (both, 4)):
        assert got.shape == (2, 8, 3, 3)
        for channel in range(8):
            base = (x if channel < 4 else 2 * x)[:, channel % 4]
            expected = base + (10 + 4 * (shift - 10) if channel < guided else shift)
            np.testing.assert_allclose(got[:, channel], expected)
