"""The linear probe against Adam and softmax regression written out, and on data whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dbench.quality.probe import linear_probe
from drun.errors import ConfigError, DataError
from dtrain.data.digits import digit_labels, digits_8x8

Features = NDArray[np.float64]
Labels = NDArray[np.int64]
Split = tuple[Features, Labels, Features, Labels]


def classes_in_noise(distance: float, seed: int = 0, num: int = 400, num_classes: int = 5) -> Split:
    """Gaussian classes `distance` standard deviations apart, in dimensions of very different mean and scale."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_classes, 6)) * distance
    labels = rng.integers(0, num_classes, 2 * num)
    features = (centres[labels] + rng.standard_normal((2 * num, 6))) * [1, 10, 0.1, 3, 100, 1] + [0, 5, -3, 100, 0, 1]
    return features[:num], labels[:num], features[num:], labels[num:]


def probe_reference(split: Split, num_epochs: int, rate: float) -> float:
    """The share that is right after Adam on the whole training set at once, the gradient of softmax by hand."""
    train, train_labels, test, test_labels = split
    mean = sum(train) / len(train)
    std = np.sqrt(sum((row - mean) ** 2 for row in train) / len(train) + 1e-6)
    inputs = np.hstack([(train - mean) / std, np.ones((len(train), 1))])  # the last weight is the bias
    wanted = np.eye(train_labels.max() + 1)[train_labels]
    weight = np.zeros((inputs.shape[1], wanted.shape[1]))
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(num_epochs):
        exponentials = np.exp(inputs @ weight)
        predicted = exponentials / exponentials.sum(axis=1, keepdims=True)
        gradient = inputs.T @ (predicted - wanted) / len(inputs)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased_first, unbiased_second = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        now = rate * (1 + math.cos(math.pi * step / num_epochs)) / 2
        weight -= now * unbiased_first / (np.sqrt(unbiased_second) + 1e-8)
    scores = np.hstack([(test - mean) / std, np.ones((len(test), 1))]) @ weight
    return float(np.mean(scores.argmax(axis=1) == test_labels))


@pytest.mark.parametrize(("num_epochs", "rate"), [(1, 1e-3), (4, 1.0), (20, 0.1), (90, 1e-3)])
def test_is_softmax_regression_by_adam(num_epochs: int, rate: float) -> None:
    for seed in (1, 2, 3):
        split = classes_in_noise(0.5, seed, num=2000)
        # Adam would blow up the rounding of a gradient that is zero, as a bias's first is for a fifth of the images.
        assert 400 not in np.bincount(split[1])
        expected = probe_reference(split, num_epochs, rate)
        assert 0.2 < expected < 0.8
        got = linear_probe(*split, num_epochs=num_epochs, learning_rate=rate, batch_size=10**6)
        # Float32 moves no more than an image on the border between two classes.
        assert got == pytest.approx(expected, abs=1.5 / 2000)


def test_classes_far_apart_are_all_found() -> None:
    assert linear_probe(*classes_in_noise(20)) == 1.0


def test_shuffled_labels_leave_chance() -> None:
    rng = np.random.default_rng(0)
    train, train_labels, test, test_labels = classes_in_noise(20, num=1000)
    got = linear_probe(train, rng.permutation(train_labels), test, rng.permutation(test_labels))
    assert got == pytest.approx(1 / 5, abs=0.06)


def test_digits_are_read_from_their_pixels() -> None:
    mixed = np.random.default_rng(0).permutation(1797)
    pixels, labels = digits_8x8().reshape(-1, 64)[mixed], digit_labels()[mixed]
    assert linear_probe(pixels[:1300], labels[:1300], pixels[1300:], labels[1300:]) > 0.9


def test_it_is_linear() -> None:
    """The corners of a square, opposite ones alike: a hidden layer would tell them apart."""
    rng = np.random.default_rng(1)
    corners = rng.choice([-1.0, 1.0], (2000, 2)) + 0.1 * rng.standard_normal((2000, 2))
    labels = (corners.prod(axis=1) > 0).astype(np.int64)
    got = linear_probe(corners[:1000], labels[:1000], corners[1000:], labels[1000:])
    assert got < 0.8


def test_units_of_a_dimension_do_not_matter() -> None:
    train, train_labels, test, test_labels = classes_in_noise(0.7, num=1000)
    scale, shift = np.array([1e3, 20, 1e4, 1, 2, 500]), np.array([3.0, -700, 0, 1e4, 5, 5])
    got = linear_probe(train * scale + shift, train_labels, test * scale + shift, test_labels)
    assert got == pytest.approx(linear_probe(train, train_labels, test, test_labels), abs=2 / 1000)


def test_a_test_image_is_judged_alone() -> None:
    """Statistics are of the training set only: a single test image gets what it gets among all."""
    train, train_labels, test, test_labels = classes_in_noise(0.7)
    alone = [
        linear_probe(train, train_labels, test[i : i + 1], test_labels[i : i + 1], num_epochs=3) for i in range(30)
    ]
    together = linear_probe(train, train_labels, test[:30], test_labels[:30], num_epochs=3)
    assert 0 < together < 1
    assert np.mean(alone) == pytest.approx(together)


def test_a_dimension_that_never_changes_in_training_says_nothing() -> None:
    train, train_labels, test, test_labels = classes_in_noise(0.7)
    loud = 1e6 * np.random.default_rng(2).standard_normal((len(test), 1))
    train_wide, test_wide = np.hstack([train, np.full((len(train), 1), 0.5)]), np.hstack([test, loud])
    expected = linear_probe(train, train_labels, test, test_labels)
    assert linear_probe(train_wide, train_labels, test_wide, test_labels) == expected


def test_labels_are_names() -> None:
    train, train_labels, test, test_labels = classes_in_noise(0.7)
    names = np.array([-4, 3, 7, 100, 10**12])
    expected = linear_probe(train, train_labels, test, test_labels)
    assert linear_probe(train, names[train_labels], test, names[test_labels]) == expected


def test_the_seed_is_all_the_randomness() -> None:
    split = classes_in_noise(0.3, num=1000)
    before = torch.get_rng_state()
    results = [linear_probe(*split, num_epochs=2, batch_size=8, learning_rate=0.05, seed=seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert results[0] == results[1]
    assert len(set(results)) > 1


def test_float32_features_and_a_caller_without_gradients() -> None:
    train, train_labels, test, test_labels = classes_in_noise(20)
    with torch.no_grad():
        got = linear_probe(train.astype(np.float32), train_labels, test.astype(np.float32), test_labels)
    assert got == 1.0


ONES, ZEROS = np.ones((6, 2)), np.zeros(6, np.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES[0], ZEROS, ONES, ZEROS), r"training set has features \(2,\)"),
        ((ONES, ZEROS, ONES, ZEROS[:5]), r"test set has features \(6, 2\) and labels \(5,\)"),
        ((ONES[:0], ZEROS[:0], ONES, ZEROS), "not empty"),
        ((ONES, ZEROS, ONES[:, :1], ZEROS), "training features have 2 dimensions, test features 1"),
        ((ONES, ZEROS.astype(float), ONES, ZEROS), "training labels are float64, expected integers"),
        ((ONES * np.nan, ZEROS, ONES, ZEROS), "training features hold NaN"),
        ((ONES, ZEROS, ONES * np.inf, ZEROS), "test features hold NaN or infinity"),
        ((ONES, ZEROS, ONES, ZEROS + 9), "1 test classes, such as 9, have no training image"),
    ],
)
def test_bad_sets_are_refused(arguments: tuple[Any, Any, Any, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        linear_probe(*arguments)


@pytest.mark.parametrize("setting", ["num_epochs", "learning_rate", "batch_size"])
def test_bad_settings_are_refused(setting: str) -> None:
    settings: dict[str, Any] = {setting: 0}
    with pytest.raises(ConfigError, match=f"{setting} got 0, expected a number above 0"):
        linear_probe(ONES, ZEROS, ONES, ZEROS, **settings)
