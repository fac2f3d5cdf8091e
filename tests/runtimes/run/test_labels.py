"""Which class each sample shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drun.bundle.manifest import Classes
from drun.errors import ConfigError
from drun.run.labels import choose

CLASSES = Classes(count=10, null_label=10)


@pytest.mark.parametrize("spec", [None, "balanced"])
def test_balanced_goes_round(spec: str | None) -> None:
    got = choose(spec, range(25), CLASSES, seed=0)
    assert got is not None
    assert got.dtype == np.int64
    assert got.tolist() == [i % 10 for i in range(25)]


def test_given_labels_repeat_by_sample_number() -> None:
    assert np.array_equal(choose("7, 3,1", [4, 0, 2, 3], CLASSES, seed=0), [3, 7, 1, 7])


def test_the_first_and_the_last_class_are_labels() -> None:
    assert np.array_equal(choose("0,9", range(2), CLASSES, seed=0), [0, 9])


def test_random_labels_belong_to_seed_and_sample() -> None:
    everyone = choose("random", range(2000), CLASSES, seed=5)
    assert everyone is not None
    assert np.array_equal(choose("random", [1999, 17], CLASSES, seed=5), everyone[[1999, 17]])
    assert not np.array_equal(choose("random", range(2000), CLASSES, seed=6), everyone)
    assert np.bincount(everyone, minlength=10).min() > 150
    assert set(everyone) == set(range(10))


def test_random_labels_come_from_a_stream_apart_from_the_noise(
    philox: Callable[[list[int], tuple[int, int]], list[int]],
) -> None:
    """The first word of the counter that begins at (1, 0, 0, 1), modulo the classes."""
    expected = [philox([1, 0, 0, 1], (5, i))[0] % 10 for i in range(20)]
    assert np.array_equal(choose("random", range(20), CLASSES, seed=5), expected)


def test_an_unconditional_model_has_no_labels() -> None:
    assert choose(None, range(4), None, seed=0) is None


@pytest.mark.parametrize(("spec", "guided"), [("balanced", False), ("1", False), (None, True)])
def test_an_unconditional_model_takes_neither_labels_nor_guidance(spec: str | None, guided: bool) -> None:
    with pytest.raises(ConfigError, match="this model is unconditional: leave out --labels and --cfg"):
        choose(spec, [0], None, seed=0, guided=guided)


@pytest.mark.parametrize("spec", ["cat", "1,", "1;2", "", "1.5"])
def test_labels_that_are_no_numbers(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"--labels got '{spec}', expected balanced, random or numbers such as 1,7"):
        choose(spec, [0], CLASSES, seed=0)


@pytest.mark.parametrize("spec", ["10", "-1", "3,99"])
def test_labels_outside_the_classes(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"--labels got '{spec}', expected classes from 0 to 9"):
        choose(spec, [0], CLASSES, seed=0)
