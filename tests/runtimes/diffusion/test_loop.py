"""The loop against a naive evaluation of the table's definition, on numpy arrays and torch tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from drun.diffusion import samplers
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import Observer, sample, walk
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import Clip, Row, StepTable
from drun.errors import NotFiniteError

SHAPE = (3, 2, 4, 4)
PROCESS = DiscreteProcess("linear")


def random_table(clip: Clip | None) -> StepTable:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(7):
        p, q, a, b, c, d0, d1 = rng.uniform(-1, 1, 7).tolist()
        history = (d0, d1)[: min(i, 2)]
        p, q = (p, q) if i % 3 else (0.0, 1.0)
        rows.append(Row(float(7 - i), p, q, a, b, c if i % 2 else 0.0, history, w=1.5))
    return StepTable(tuple(rows), clip)


def naive(table: StepTable, x: np.ndarray, z: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """h = p x + q m; clip; x = a x + b h + sum d[k] h_prev[k] + c z, as `drun.diffusion.table` says."""
    earlier: list[np.ndarray] = []
    calls = []
    for row in table.rows:
        calls.append((row.t, row.w))
        h = row.p * x + row.q * np.sin(x + row.t)
        if table.clip is not None and table.clip.dynamic_quantile:
            s = np.maximum(1, np.quantile(np.abs(h), table.clip.dynamic_quantile, axis=(1, 2, 3), keepdims=True))
            h = np.clip(h, -s, s) / s
        elif table.clip is not None:
            h = np.clip(h, -1, 1)
        x = row.a * x + row.b * h + sum(w * h_previous for w, h_previous in zip(row.d, earlier, strict=False))
        if row.c != 0:
            x = x + row.c * z.pop(0)
        earlier.insert(0, h)
    return x, calls


@pytest.mark.parametrize("clip", [None, Clip(), Clip(0.8)])
def test_the_loop_evaluates_the_table(clip: Clip | None) -> None:
    table, rng = random_table(clip), np.random.default_rng(1)
    x, z = rng.standard_normal(SHAPE) * 2, list(rng.standard_normal((3, *SHAPE)))
    expected, expected_calls = naive(table, x, list(z))
    calls = []

    def denoise(x: np.ndarray, t: float, w: float) -> np.ndarray:
        calls.append((t, w))
        return np.sin(x + t)

    draws = iter(z)
    got = sample(denoise, x, table, lambda: next(draws))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert calls == expected_calls
    assert next(draws, None) is None


def test_a_plain_clip_bounds_to_1() -> None:
    table = StepTable((Row(0.0, 0.0, 1.0, 0.0, 1.0),), Clip())
    x = np.array([-3.0, -1, -0.5, 0.25, 1, 40]).reshape(1, 1, 2, 3)
    assert sample(lambda x, t, w: x, x, table, np.empty).ravel().tolist() == [-1, -1, -0.5, 0.25, 1, 1]


def test_the_state_is_carried_in_place_in_its_own_dtype() -> None:
    x = np.ones(SHAPE, np.float32)
    final = sample(lambda x, t, w: x.astype(np.float64), x, random_table(Clip(0.5)), lambda: np.ones(SHAPE))
    assert final is x
    assert final.dtype == np.float32


def test_a_network_may_reuse_its_output_array() -> None:
    """Multistep rows need the earlier outputs after the next call overwrote them."""
    table, out = samplers.step_table("dpmpp_2m", PROCESS, "velocity", 6), np.empty(SHAPE)
    x = np.random.default_rng(0).standard_normal(SHAPE)

    def reusing(x: np.ndarray, t: float, w: float) -> np.ndarray:
        return np.sin(x + t, out=out)

    fresh = sample(lambda x, t, w: np.sin(x + t), x.copy(), table, np.empty)
    np.testing.assert_array_equal(sample(reusing, x.copy(), table, np.empty), fresh)


def test_on_step_sees_every_state() -> None:
    table = StepTable((Row(2.0, 0.0, 1.0, 0.5, 0.0), Row(1.0, 0.0, 1.0, 3.0, 0.0)))
    seen = []
    sample(lambda x, t, w: x, np.ones((1, 1, 1, 1)), table, np.empty, lambda i, x: seen.append((i, x.item())))
    assert seen == [(0, 0.5), (1, 1.5)]


def on_numpy(table: StepTable, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    draws: Iterator[np.ndarray] = iter(z)
    return sample(lambda x, t, w: x * 0.3 + 0.001 * t, x.copy(), table, lambda: next(draws))


def on_torch(torch: Any, table: StepTable, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    draws = iter(torch.from_numpy(z))
    final = sample(lambda x, t, w: x * 0.3 + 0.001 * t, torch.from_numpy(x.copy()), table, lambda: next(draws))
    assert isinstance(final, torch.Tensor)
    return np.asarray(final.numpy())


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
@pytest.mark.parametrize("options", [{"clip_x0": False}, {"clip_x0": True}, {"dynamic_threshold": 0.7}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_and_torch_agree(name: str, options: dict[str, Any], dtype: str) -> None:
    table = with_guidance(samplers.step_table(name, PROCESS, "velocity", 12, options), 2.0)
    noise = np.random.default_rng(0).standard_normal((13, *SHAPE)).astype(dtype)
    got, expected = on_torch(torch, table, noise[0], noise[1:]), on_numpy(table, noise[0], noise[1:])
    assert got.dtype == expected.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=8 * np.finfo(dtype).eps)


# ---- the walk of a batch -----------------------------------------------------------------------------------

LABELS, NULL = np.array([4, 1, 3]), 7


def conditional(x: Any, t: float, labels: Any) -> Any:
    """Works on numpy arrays and torch tensors, and in float64 on both."""
    return x * 0.3 + 0.01 * t + 0.1 * (labels.reshape(-1, 1, 1, 1) + 0 * x)


@pytest.mark.parametrize("on", ["numpy", "torch"])
def test_a_walk_is_guided_and_ends_on_the_host(on: str) -> None:
    """`put` brings states, labels and noise to where the network computes, here to torch."""
    put = torch.from_numpy if on == "torch" else np.asarray
    table, rng = random_table(None), np.random.default_rng(1)
    x, z = rng.standard_normal(SHAPE), list(rng.standard_normal((3, *SHAPE)))
    draws, kinds = iter(z), set()

    def predict(x: Any, t: float, labels: Any) -> Any:
        kinds.update((type(x), type(labels)))
        return conditional(x, t, labels)

    got = walk(predict, table, x.copy(), LABELS, Guidance(NULL), lambda: next(draws), put=put)
    expected, earlier, left = x.copy(), list[np.ndarray](), list(z)
    for row in table.rows:  # m_u + w (m_c - m_u), then the row as `drun.diffusion.table` says
        with_class, without = (conditional(expected, row.t, y) for y in (LABELS, np.full(3, NULL)))
        h = row.p * expected + row.q * (without + row.w * (with_class - without))
        expected = row.a * expected + row.b * h + sum(w * old for w, old in zip(row.d, earlier, strict=False))
        expected = expected + row.c * left.pop(0) if row.c != 0 else expected
        earlier.insert(0, h)
    assert type(got) is np.ndarray
    assert kinds == {torch.Tensor if on == "torch" else np.ndarray}
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def growing(num_rows: int, factor: float = 2.0) -> StepTable:
    """Each row multiplies the state."""
    return StepTable(tuple(Row(float(num_rows - i), 0.0, 1.0, 0.0, factor) for i in range(num_rows)))


def unlabelled(x: Any, t: float, labels: Any) -> Any:
    assert labels is None
    return x.copy()


def test_an_observer_sees_the_rows_that_it_asked_for() -> None:
    progress, shown = list[int](), list[tuple[int, float]]()
    observer = Observer(progress.append, (-1, 1, 3), lambda row, x: shown.append((row, float(x.item()))))
    final = walk(unlabelled, growing(4), np.ones((1, 1, 1, 1)), None, Guidance(), np.empty, observer)
    assert progress == [1, 2, 3, 4]
    assert shown == [(-1, 1), (1, 4), (3, 16)]
    assert final.item() == 16


@pytest.mark.parametrize(
    ("num_rows", "broken", "calls", "message"),
    [
        (25, 0, 10, r"between steps 1 and 10 of 25 \(t = 25 to 16\)"),
        (25, 12, 20, r"between steps 11 and 20 of 25 \(t = 15 to 6\)"),
        (25, 24, 25, r"between steps 21 and 25 of 25 \(t = 5 to 1\)"),
        (3, 1, 3, r"between steps 1 and 3 of 3 \(t = 3 to 1\)"),
    ],
)
def test_the_state_is_looked_at_every_ten_rows_and_at_the_end(
    num_rows: int, broken: int, calls: int, message: str
) -> None:
    times = list[float]()

    def predict(x: Any, t: float, labels: Any) -> Any:
        times.append(t)
        return x * (np.nan if len(times) == broken + 1 else 1.0)

    with pytest.raises(NotFiniteError, match=message):
        walk(predict, growing(num_rows, 1.0), np.ones((2, 1, 1, 1)), None, Guidance(), np.empty)
    assert len(times) == calls


def test_an_overflow_is_a_sentence_without_numpys_warning() -> None:
    with pytest.raises(NotFiniteError, match="between steps 1 and 10 of 12"):
        walk(unlabelled, growing(12, 1e6), np.ones((1, 1, 1, 1), np.float32), None, Guidance(), np.empty)
