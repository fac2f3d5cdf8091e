"""The random numbers of a step: the same for one process and for many, and a stream for each purpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dtrain.draws import Draws

CPU = torch.device("cpu")
KINDS: dict[str, Callable[[Draws], Tensor]] = {
    "integers": lambda draws: draws.integers(1000),
    "one integer": lambda draws: draws.integers(1000, per_image=False),
    "normal": lambda draws: draws.normal(2, 3),
    "latent_normal": lambda draws: draws.latent_normal(2, 3),
    "times": lambda draws: torch.from_numpy(draws.times()),
    "normal times": lambda draws: torch.from_numpy(draws.times(normal=True)),
    "toss": lambda draws: draws.toss(),
    "dropped": lambda draws: draws.dropped(0.3),
}


def draws(own: slice = slice(0, 6), seed: int = 0, step: int = 0, total: int = 6) -> Draws:
    return Draws(seed, step, total, own, CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_processes_draw_the_numbers_of_their_own_images(kind: str) -> None:
    draw = KINDS[kind]
    whole = draw(draws())
    parts = [draw(draws(own)) for own in (slice(0, 2), slice(2, 6))]
    assert [len(part) for part in parts] == [2, 4]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_another_step_or_seed_draws_other_numbers(kind: str) -> None:
    first, again, step, seed = (
        KINDS[kind](Draws(seed, step, 64, slice(0, 64), CPU)) for seed, step in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, step)
    assert not torch.equal(first, seed)


def test_streams_do_not_move_each_other() -> None:
    alone, after_others = draws(), draws()
    for draw in KINDS.values():
        draw(after_others)
    for name in ("latent_normal", "times", "dropped"):
        assert torch.equal(KINDS[name](alone), KINDS[name](after_others))
    assert not torch.equal(draws().normal(2, 3), draws().latent_normal(2, 3))


def test_the_laws_are_what_they_are_called() -> None:
    many = Draws(3, 5, 20_000, slice(0, 20_000), CPU)
    integers, normal, times = many.integers(4), many.normal(1), many.times()
    assert (integers.bincount() / 20_000).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert (float(normal.mean()), float(normal.std())) == pytest.approx((0, 1), abs=0.03)
    assert np.histogram(times, 4, (0, 1))[0] / 20_000 == pytest.approx([0.25] * 4, abs=0.02)
    assert times.dtype == np.float64
    assert float(many.toss().float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(many.dropped(0.1).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert not many.dropped(0.0).any()
    first, second = many.toss(), many.toss()
    assert not torch.equal(first, second)
