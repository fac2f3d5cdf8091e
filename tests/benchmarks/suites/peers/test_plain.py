"""The plain loops, against formulas and against `drun`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from openings import on

from dbench.suites.peers import plain
from dbench.suites.peers.making import Subject
from drun.bundle.card import Card, StateSpace
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import SamplingSettings


def test_euler_of_a_constant_velocity_is_a_straight_line() -> None:
    x = np.zeros((1, 1, 2, 2), np.float32)
    end = plain.euler(lambda x, t: np.full_like(x, 3), x, [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(end, np.full_like(x, -3))


def test_ddim_with_the_true_noise_finds_the_image() -> None:
    rng = np.random.default_rng(0)
    image, eps = (rng.uniform(-1, 1, (1, 1, 4, 4)).astype(np.float32) for _ in "ab")
    times, alphas = [9.0, 4.0, 0.0], [0.2, 0.6, 0.9]
    x = np.float32(0.2) * image + np.float32((1 - 0.04) ** 0.5) * eps
    for clip in (False, True):
        np.testing.assert_allclose(plain.ddim(lambda x, t: eps, x, times, alphas, clip), image, atol=1e-5)


def test_guidance_is_one_call_on_two_images_that_ignores_a_variance() -> None:
    def predict(x: Any, t: Any, y: Any) -> Any:
        assert x.shape == (2, 1, 2, 2)
        np.testing.assert_array_equal(t, np.float32([7, 7]))
        both = np.where(y == 3, 2.0, 1.0).astype(np.float32).reshape(2, 1, 1, 1) * np.ones_like(x)
        return np.concatenate([both, np.full_like(x, 99)], axis=1)

    out = plain.guided(predict, 3, 10, 1.5)(np.zeros((1, 1, 2, 2), np.float32), 7.0)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), 1 + 1.5 * (2 - 1), np.float32))


@pytest.mark.parametrize("of", ["sit", pytest.param("dit", marks=pytest.mark.slow)])
def test_the_loop_draws_the_image_of_drun(of: str, request: pytest.FixtureRequest) -> None:
    subject: Subject = request.getfixturevalue(of)
    card, bundle = subject.denoiser.card, subject.bundle
    assert card.classes is not None
    name = "euler" if card.prediction == "velocity" else "ddim"
    settings = SamplingSettings(*resolve_sampler(card, name, {}), 7, labels="2", cfg=1.5, cfg_channels=0)
    with on("ort", bundle, threads=1) as opened:
        expected = Sampling(card, opened, settings).draw([0]).copy()
        denoise = plain.guided(lambda *given: opened.backend.predict(*given).copy(), 2, card.classes.count, 1.5)
        got = plain.loop_of(card, 7)(denoise, PhiloxNoise(0, [0], card.data.shape)())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_states_are_of_all_times_and_several_classes(sit: Subject) -> None:
    def predict(x: Any, t: Any, y: Any) -> Any:
        return np.zeros_like(x)

    found = plain.states(predict, sit.denoiser.card, 120)
    assert len(found) == 120
    times, labels = ({float(arrays[i][0]) for arrays in found} for i in (1, 2))
    np.testing.assert_allclose(sorted(times), np.linspace(0.02, 1, 50), atol=1e-6)
    assert len(labels) > 1
    assert all(arrays[0].shape == (1, 1, 16, 16) for arrays in found)


def test_what_the_loops_do_not_know_is_said() -> None:
    card = Card(DiscreteProcess("linear", 1000), "x0", StateSpace.of((1, 4, 4)))
    with pytest.raises(ConfigError, match="velocities of flows and noise of chains, got x0 of a discrete"):
        plain.loop_of(card, 3)
