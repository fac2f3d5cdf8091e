import numpy as np

from dtrain.data.digits import digit_labels, digits_8x8
from dtrain.data.pixels import load_images


def test_digits_are_the_bundled_ones() -> None:
    digits = digits_8x8()
    assert digits.shape == (1797, 8, 8)
    assert digits.dtype == np.float64
    assert (digits.min(), digits.max()) == (0.0, 1.0)
    assert np.array_equal(digits * 16, np.rint(digits * 16))
    assert digit_labels().shape == (1797,)
    assert set(digit_labels()) == set(range(10))


def test_enlarged_digits_average_to_the_originals() -> None:
    images = load_images("digits", 16, 1)
    means = images[..., 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    assert images.shape == (1797, 16, 16, 1)
    assert images.dtype == np.uint8
    assert np.abs(means - 255 * digits_8x8()).max() <= 0.5  # rounding
    assert (images.min(), images.max()) == (0, 255)


def test_enlarged_digits_are_smoother_than_squares() -> None:
    images = load_images("digits", 16, 3).astype(float)
    squares = (255 * digits_8x8()).repeat(2, axis=1).repeat(2, axis=2)
    assert images.shape == (1797, 16, 16, 3)
    roughness = [np.square(np.diff(stack, axis=1)).mean() for stack in (images[..., 0], squares)]
    assert roughness[0] < 0.9 * roughness[1]


def test_digits_at_another_size() -> None:
    images = load_images("digits", 32, 1)
    assert images.shape == (1797, 32, 32, 1)
    assert abs(images.mean() - 255 * digits_8x8().mean()) < 1
