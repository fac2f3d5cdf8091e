"""Draws that are made ahead: the numbers of the source, on a thread that ends with the walk."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from drun.diffusion.ahead import AHEAD_SIZE, ahead
from drun.diffusion.noise import Noise, PhiloxNoise

SHAPE = (2, 128, 130)
LARGE = 2 * 2 * 128 * 130


class Counting:
    """The draws 0, 1, 2, ...; it fails at one of them if asked to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.count, self.second = fails_at, 0, threading.Event()
        self.threads: set[str] = set()

    def __call__(self) -> Noise:
        self.threads.add(threading.current_thread().name)
        if self.count == self.fails_at:
            raise OSError("no more noise")
        self.count += 1
        if self.count == 2:
            self.second.set()
        return np.full((1, 1, 2, 2), self.count - 1, np.float32)


def value(draw: Noise) -> float:
    return float(draw[0, 0, 0, 0])


def test_the_numbers_are_those_of_the_source() -> None:
    """And a draw that was taken stays as it is while the next ones are made."""
    assert LARGE >= AHEAD_SIZE
    source, alone = PhiloxNoise(3, [4, 7], SHAPE), PhiloxNoise(3, [4, 7], SHAPE)
    with ahead(source, 4, LARGE) as draws:
        taken = [draws() for _ in range(4)]
    for draw in taken:
        np.testing.assert_array_equal(draw, alone())
    np.testing.assert_array_equal(source(), alone())  # nothing was drawn beyond the four


def test_the_next_draw_is_made_while_the_caller_has_the_last_one() -> None:
    source = Counting()
    with ahead(source, 3, AHEAD_SIZE) as draws:
        assert value(draws()) == 0
        assert source.second.wait(30)
        assert [value(draws()), value(draws())] == [1, 2]
    assert threading.current_thread().name not in source.threads


@pytest.mark.parametrize(("num_draws", "taken"), [(1, 1), (5, 5), (5, 2), (5, 0)])
def test_no_more_is_drawn_than_is_taken_and_one(num_draws: int, taken: int) -> None:
    source = Counting()
    with ahead(source, num_draws, AHEAD_SIZE) as draws:
        for i in range(taken):
            assert value(draws()) == i
    assert source.count == min(num_draws, taken + 1)


def test_a_caller_who_asks_for_more_gets_the_next_ones() -> None:
    with ahead(Counting(), 2, AHEAD_SIZE) as draws:
        assert [value(draws()) for _ in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("num_draws", "size"), [(0, AHEAD_SIZE), (9, AHEAD_SIZE - 1)])
def test_small_draws_are_made_on_the_spot(num_draws: int, size: int) -> None:
    source = Counting()
    with ahead(source, num_draws, size) as draws:
        assert draws is source


def test_an_error_of_the_source_is_raised_where_its_draw_is_asked_for() -> None:
    before = {*threading.enumerate()}
    with ahead(Counting(fails_at=2), 9, AHEAD_SIZE) as draws:
        assert [value(draws()), value(draws())] == [0, 1]
        with pytest.raises(OSError, match="no more noise"):
            draws()
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_no_thread_is_left_behind_by_an_error_of_the_caller(kind: type[BaseException]) -> None:
    def fail() -> None:
        with ahead(PhiloxNoise(0, [0, 1], SHAPE), 9, LARGE) as draws:
            draws()
            raise kind

    before = {*threading.enumerate()}
    with pytest.raises(kind):
        fail()
    assert {*threading.enumerate()} <= before
