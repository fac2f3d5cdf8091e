"""The features of a distance, and its floor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comparisons import CPU

from dbench.core.record import Result
from dbench.quality.frechet import frechet_distance
from dbench.suites.repa import eyes as eyes_of
from dbench.suites.repa.eyes import of_network, of_pixels
from dbench.suites.repa.real import RealImages
from dbench.suites.repa.settings import RepaSettings
from dtrain import teachers


@pytest.fixture
def images() -> RealImages:
    rng = np.random.default_rng(0)
    return RealImages(rng.integers(256, size=(40, 16, 16, 1), dtype=np.uint8), None, "0" * 64)


def test_pixels_are_means_of_boxes(images: RealImages) -> None:
    eyes = of_pixels(images, 10)
    means = images.images.reshape(40, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(40, 64) / 255
    np.testing.assert_allclose(eyes.see(images.images), means)
    np.testing.assert_allclose(eyes.reference, means)


def test_a_network_sees_by_the_mean_of_its_tokens(
    images: RealImages, result: Result, settings: RepaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = teachers.load(settings.features, 16, CPU)
    monkeypatch.setattr(eyes_of, "BATCH", 7)
    eyes = of_network(judge, images, 10)
    tokens = judge(torch.from_numpy(images.images)).mean(dim=1).double().numpy()
    np.testing.assert_allclose(eyes.see(images.images), tokens, rtol=1e-4, atol=1e-6)
    assert (eyes.name, eyes.fingerprint) == ("32 features of fashion-features", judge.fingerprint)


def test_the_floor_is_that_of_sets_as_large_as_those_that_are_drawn(images: RealImages) -> None:
    eyes = of_pixels(images, 10)
    order = np.random.default_rng(0).permutation(40)
    seen = eyes.see(images.images)
    assert eyes.floor[0] == frechet_distance(seen[order[:10]], seen[order[10:]])
    assert len(eyes.floor) == eyes_of.SPLITS
    assert len(of_pixels(images, 1000).floor) == eyes_of.SPLITS  # of halves
