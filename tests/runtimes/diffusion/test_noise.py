"""The noise against an independent Philox and Box-Muller, and noise files."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.diffusion.noise import PhiloxNoise, box_muller
from drun.errors import ConfigError

WORD = 2**64
Philox = Callable[[list[int], tuple[int, int]], list[int]]


def reference_words(philox: Philox, seed: int, index: int, count: int) -> list[int]:
    """The stream of one sample: the counter starts at 1 and each block gives its four words in order."""
    blocks = range(1, 2 + (count - 1) // 4)
    return [word for counter in blocks for word in philox([counter, 0, 0, 0], (seed, index))][:count]


def reference_normals(words: list[int]) -> list[float]:
    """Box & Muller 1958, with u the middle of its 2^-53 wide cell."""
    normals = []
    for first, second in zip(words[0::2], words[1::2], strict=True):
        u0, u1 = ((word // 2**11 + 0.5) / 2**53 for word in (first, second))
        radius = math.sqrt(-2 * math.log(u0))
        normals += [radius * math.cos(2 * math.pi * u1), radius * math.sin(2 * math.pi * u1)]
    return normals


def test_the_reference_gives_the_published_answers(philox: Philox) -> None:
    """Known answers of the Random123 distribution for philox4x64-10."""
    assert philox([0, 0, 0, 0], (0, 0)) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip
    assert philox([WORD - 1] * 4, (WORD - 1, WORD - 1)) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    ]  # fmt: skip


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (1, 0), (0, 1), (123, 45), (WORD - 1, 10**9)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (1, 2, 3), (3, 4, 4)])
def test_two_draws_of_a_sample(philox: Philox, seed: int, index: int, shape: tuple[int, ...]) -> None:
    """An odd image uses a whole pair for its last number, so the next draw starts at an even word."""
    size = math.prod(shape)
    padded = size + size % 2
    words = reference_words(philox, seed, index, 2 * padded)
    source = PhiloxNoise(seed, [index], shape)
    for draw in (words[:padded], words[padded:]):
        got = source()
        assert got.dtype == np.float32
        expected = np.array(reference_normals(draw)[:size], np.float32).reshape(1, *shape)
        np.testing.assert_array_max_ulp(got, expected, maxulp=1)


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 16, 16), (3, 64, 64)])
def test_draws_made_ahead_are_those_of_the_stream(shape: tuple[int, ...]) -> None:
    """Many draws, of sizes that are made one, several and very many at a time, in any batch; each in one piece."""
    size = math.prod(shape)
    together = PhiloxNoise(7, [0, 5, 2], shape)
    generator = np.random.Philox(key=np.array([7, 5], np.uint64))
    for _ in range(40):
        got = together()
        words = generator.random_raw(size + size % 2)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got[1].ravel(), box_muller(words)[:size])


def test_each_sample_has_its_own_stream() -> None:
    """In any company and order, sample 7 is sample 7."""
    alone, among = PhiloxNoise(3, [7], (3, 4, 4)), PhiloxNoise(3, [9, 7, 0], (3, 4, 4))
    for _ in range(3):
        np.testing.assert_array_equal(alone()[0], among()[1])


def test_seeds_and_samples_differ() -> None:
    streams = [PhiloxNoise(seed, [index], (1, 4, 4))() for seed in range(4) for index in range(4)]
    assert len({stream.tobytes() for stream in streams}) == 16


@given(st.lists(st.integers(0, WORD - 1), min_size=2, max_size=20).filter(lambda words: len(words) % 2 == 0))
@settings(max_examples=60, deadline=None)
def test_box_muller_of_any_words(words: list[int]) -> None:
    got = box_muller(np.array([words], np.uint64))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[0], reference_normals(words), rtol=2e-7, atol=1e-15)


def test_box_muller_of_the_extreme_words() -> None:
    """u = 2^-54 gives the largest number; the largest u rounds to 1 and gives 0."""
    got = box_muller(np.array([[0, 0, WORD - 1, WORD - 1]], np.uint64))[0]
    np.testing.assert_allclose(got[[0, 2]], [math.sqrt(2 * 54 * math.log(2)), 0], rtol=1e-6)


def test_the_numbers_are_standard_normal() -> None:
    """Mean, variance, and a Kolmogorov-Smirnov distance below the 1 % point."""
    numbers = np.sort(PhiloxNoise(1, range(10), (1, 50, 41))().ravel()).astype(np.float64)
    n = numbers.size
    assert abs(numbers.mean()) < 3 / n**0.5
    assert abs(numbers.var() - 1) < 3 * (2 / n) ** 0.5
    distribution = np.array([statistics.NormalDist().cdf(number) for number in numbers])
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - distribution), np.max(distribution - steps[:-1]))
    assert distance < 1.63 / n**0.5


@pytest.mark.parametrize("seed", [-1, WORD])
def test_a_seed_outside_its_range_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed got {seed}, expected a whole number from 0 to 2\^64 - 1"):
        PhiloxNoise(seed, [0], (1, 2, 2))
