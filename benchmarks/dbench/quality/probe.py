"""A linear probe: how well a linear layer tells the classes from frozen features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

Features = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def linear_probe(
    train_features: Features,
    train_labels: Labels,
    test_features: Features,
    test_labels: Labels,
    *,
    num_epochs: int = 90,
    learning_rate: float = 1e-3,
    batch_size: int = 256,
    seed: int = 0,
) -> float:
    """The share of test images that a linear classifier of the frozen features gets right, in [0, 1].

    The protocol is REPA's (Yu et al. 2024, after MAE's linear probing, He et al. 2022, appendix A.1): normalisation
    without parameters, one linear layer, cross-entropy, 90 epochs of Adam, rate 1e-3 that falls to zero by a cosine,
    no weight decay. Three things are ours, so numbers compare within this project: features are standardised by the
    statistics of the whole training set rather than of batches; the layer starts at zero, which a convex problem
    allows; the batches are smaller than MAE's 16,384, or a small training set would see only 90 steps.

    Runs in float32 on the CPU; the same seed gives the same batches, and no global state is read or changed.

    Args:
        train_features: (N, D), test_features: (M, D), float32 or float64; of a transformer, the mean over tokens.
        train_labels: (N,), test_labels: (M,), integers; every test class must have a training image.
        num_epochs: passes over the training set. learning_rate: at the start. batch_size: images a step.
        seed: of the order of the images.

    Raises:
        DataError: shapes that do not fit, an empty set, values that are not finite, labels that are not integers,
            or a test class without training images.
        ConfigError: num_epochs, batch_size or learning_rate not above 0.
    """
    import torch

    _check_set("training", train_features, train_labels)
    _check_set("test", test_features, test_labels)
    _check_together(train_features, train_labels, test_features, test_labels)
    _check_settings(num_epochs, learning_rate, batch_size)
    classes, targets = np.unique(train_labels, return_inverse=True)
    train, test = (torch.from_numpy(array) for array in _standardised(train_features, test_features))
    weight = torch.zeros(train.shape[1], len(classes), requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        _fit(weight, bias, train, torch.from_numpy(targets), generator, num_epochs, learning_rate, batch_size)
    with torch.no_grad():
        predicted = classes[torch.addmm(bias, test, weight).argmax(dim=1).numpy()]
    return float(np.mean(predicted == test_labels))


def _standardised(train: Features, test: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both by the mean and variance of `train`; as in batch norm the variance is biased, epsilon is MAE's."""
    mean = train.mean(axis=0, dtype=np.float64)
    scale = 1 / np.sqrt(train.var(axis=0, dtype=np.float64) + 1e-6)
    return ((train - mean) * scale).astype(np.float32), ((test - mean) * scale).astype(np.float32)


def _fit(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    targets: Tensor,
    generator: Any,
    num_epochs: int,
    learning_rate: float,
    batch_size: int,
) -> None:
    """Train `weight` (D, C) and `bias` (C,) in place."""
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.Adam([weight, bias], lr=learning_rate)
    num_steps, step = num_epochs * math.ceil(len(features) / batch_size), 0
    for _ in range(num_epochs):
        for chosen in torch.split(torch.randperm(len(features), generator=generator), batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / num_steps))
            optimizer.zero_grad()
            loss = F.cross_entropy(torch.addmm(bias, features[chosen], weight), targets[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1


def _check_set(name: str, features: Features, labels: Labels) -> None:
    if features.ndim != 2 or labels.shape != (len(features),) or features.size == 0:
        raise DataError(
            f"the {name} set has features {features.shape} and labels {labels.shape}: expected (N, D) and (N,), "
            "not empty; give one label for each image"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"the {name} labels are {labels.dtype}, expected integers: cast them")
    if not np.isfinite(features).all():
        raise DataError(f"the {name} features hold NaN or infinity: check the images and the network")


def _check_together(train: Features, train_labels: Labels, test: Features, test_labels: Labels) -> None:
    if train.shape[1] != test.shape[1]:
        raise DataError(
            f"training features have {train.shape[1]} dimensions, test features {test.shape[1]}: use the same layer"
        )
    unseen = np.setdiff1d(test_labels, train_labels)
    if len(unseen):
        raise DataError(
            f"{len(unseen)} test classes, such as {unseen[0]}, have no training image: expected each in both sets; "
            "split the images anew"
        )


def _check_settings(num_epochs: int, learning_rate: float, batch_size: int) -> None:
    for name, value in (("num_epochs", num_epochs), ("learning_rate", learning_rate), ("batch_size", batch_size)):
        if not value > 0:
            raise ConfigError(f"{name} got {value}, expected a number above 0: change it")
