from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import ConfigError
from dtrain.data.batches import augment, batch_indices


@settings(max_examples=60, deadline=None)
@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 2**63 - 1))
def test_every_epoch_shows_each_image_once(num_images: int, batch_size: int, seed: int) -> None:
    num_steps = -(-3 * num_images // batch_size)
    order = np.concatenate([batch_indices(num_images, batch_size, seed, step) for step in range(num_steps)])
    for epoch in range(3):
        part = order[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(part) == list(range(num_images))


@settings(max_examples=60, deadline=None)
@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 50), step=st.integers(0, 10**6))
def test_order_needs_only_seed_and_step(num_images: int, batch_size: int, step: int) -> None:
    resumed = batch_indices(num_images, batch_size, 7, step)
    batch_indices(num_images + 1, 3, 8, 0)
    assert resumed.shape == (batch_size,)
    assert resumed.dtype == np.int64
    assert np.array_equal(batch_indices(num_images, batch_size, 7, step), resumed)
    halves = [batch_indices(num_images, batch_size, 7, at) for at in (2 * step, 2 * step + 1)]
    assert np.array_equal(batch_indices(num_images, 2 * batch_size, 7, step), np.concatenate(halves))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [batch_indices(100, 100, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert tuple(range(100)) not in {tuple(order) for order in orders}


def tosses(num: int, generator: torch.Generator) -> Callable[[], torch.Tensor]:
    return lambda: torch.rand(num, generator=generator) < 0.5


def symmetries_seen(modes: list[str], num: int = 400) -> dict[tuple[int, bool], int]:
    """How often each symmetry occurs; keys: quarter turns, then whether mirrored before."""
    image = torch.arange(9, dtype=torch.uint8).reshape(1, 3, 3)
    generator = torch.Generator().manual_seed(0)
    batch = augment(image.expand(num, 1, 3, 3), modes, tosses(num, generator))
    group = {
        (turns, mirrored): (image.flip(-1) if mirrored else image).rot90(turns, (-2, -1))
        for turns in range(4)
        for mirrored in (False, True)
    }
    counts = {key: sum(torch.equal(result, member) for result in batch) for key, member in group.items()}
    assert sum(counts.values()) == num
    return counts


def test_all_eight_symmetries_occur_about_equally_often() -> None:
    counts = symmetries_seen(["hflip", "vflip", "rot90"])
    assert len(counts) == 8
    assert all(25 < count < 80 for count in counts.values())


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ([], {(0, False)}),
        (["hflip"], {(0, False), (0, True)}),
        (["vflip"], {(0, False), (2, True)}),
        (["hflip", "vflip"], {(0, False), (0, True), (2, True), (2, False)}),
        (["rot90"], {(0, False), (1, False), (2, False), (3, False)}),
    ],
)
def test_each_mode_is_its_own_symmetry(modes: list[str], expected: set[tuple[int, bool]]) -> None:
    counts = symmetries_seen(modes)
    assert {key for key, count in counts.items() if count} == expected
    assert all(count > 0.6 * 400 / len(expected) for count in counts.values() if count)


def test_augmentation_repeats_with_the_generator_and_spares_its_input() -> None:
    batch = torch.randn(16, 3, 4, 4)
    kept = batch.clone()
    modes = ["hflip", "rot90"]
    first, second = (augment(batch, modes, tosses(16, torch.Generator().manual_seed(5))) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, batch)
    assert torch.equal(batch, kept)


def test_augmentation_refuses() -> None:
    generator = tosses(1, torch.Generator())
    with pytest.raises(ConfigError, match="unknown augmentation 'blur': choose from hflip, vflip, rot90"):
        augment(torch.zeros(1, 3, 4, 4), ["hflip", "blur"], generator)
    with pytest.raises(ConfigError, match="rot90 needs square images, got 4x6 pixels"):
        augment(torch.zeros(1, 3, 4, 6), ["rot90"], generator)
    assert augment(torch.zeros(1, 3, 4, 6), ["hflip", "vflip"], generator).shape == (1, 3, 4, 6)
