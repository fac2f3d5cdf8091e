import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dtrain.data.image_files import fit

Pixels = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_fit_crops_the_centre() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = noise(8, 8, 3)
    assert np.array_equal(fit(Image.fromarray(pixels), 8, 3), noise(8, 8, 3))
    assert np.array_equal(fit(Image.fromarray(pixels.swapaxes(0, 1)), 8, 3), noise(8, 8, 3).swapaxes(0, 1))


def test_fit_halves_by_block_means() -> None:
    pixels = noise(32, 32)
    means = pixels.reshape(16, 2, 16, 2).mean(axis=(1, 3)).reshape(8, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(fit(Image.fromarray(pixels), 8, 1)[..., 0] - means).max() <= 2  # Pillow rounds each pass


@pytest.mark.parametrize(("height", "width"), [(5, 9), (31, 17), (8, 100), (15, 16), (301, 33)])
def test_fit_gives_the_asked_size(height: int, width: int) -> None:
    assert fit(flat(height, width, (9, 9, 9)), 8, 3).shape == (8, 8, 3)
