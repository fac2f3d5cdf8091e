"""Which class each sample shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drun.bundle.card import Classes
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


@pytest.mark.parametrize(("spec", "got"), [
    ("cat", "cat"), ("1,", ""), ("1;2", "1;2"), ("", ""), ("1.5", "1.5"), ("10", "10"), ("-1", "-1"), ("3,99", "99"),
    ("9" * 5000, "9" * 5000),
])  # fmt: skip
def test_labels_that_are_no_classes(spec: str, got: str) -> None:
    with pytest.raises(ConfigError, match=f"--labels got '{got}', expected balanced, random, or numbers from 0 to 9$"):
        choose(spec, [0], CLASSES, seed=0)


# ---- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "spec", "expected"),
    [
        (("bag", "coat", "dress"), "coat,2, bag", [1, 2, 0]),
        (("1", "10", "2"), "2,10,0", [2, 1, 0]),  # folders that are called by numbers, in sorted order
        (("bag", "tench, Tinca tinca", "sea, deep"), "tench, Tinca tinca", [1, 1, 1]),
        (("ß", "straße", "x"), "straße", [1, 1, 1]),
    ],
)
def test_classes_by_name(names: tuple[str, ...], spec: str, expected: list[int]) -> None:
    got = choose(spec, range(3), Classes(3, None, names), seed=0)
    assert got is not None
    assert got.tolist() == expected


def test_of_equal_names_the_first_is_meant() -> None:
    """Of folders 1, 10 and 3 and a class without images, called 3 after its number."""
    got = choose("3", range(1), Classes(4, None, ("1", "10", "3", "3")), seed=0)
    assert got is not None
    assert got.tolist() == [2]


def test_an_unknown_name_is_told_the_known_ones() -> None:
    named = Classes(3, None, ("bag", "coat", "dress"))
    with pytest.raises(ConfigError, match=r"got 'jeans', expected .* from 0 to 2, or names such as bag, coat, dress$"):
        choose("bag,jeans", [0], named, seed=0)
    with pytest.raises(ConfigError, match=r"got '3', expected .* from 0 to 2, or names such as bag, coat, dress$"):
        choose("3", [0], named, seed=0)


def test_of_many_names_the_nearest_are_offered() -> None:
    named = Classes(1000, None, (*(f"{i:03d}-thing" for i in range(999)), "goldfish"))
    with pytest.raises(ConfigError, match=r"got 'goldfsh', expected .* from 0 to 999, or names such as goldfish$"):
        choose("goldfsh", [0], named, seed=0)
