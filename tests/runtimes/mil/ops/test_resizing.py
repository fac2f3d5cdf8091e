"""Other numbers of pixels, against torch, and against the grids that the definition states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.mil.ops.resizing import GRIDS, crop, resize, upsample_bilinear_centred, upsample_nearest_neighbor

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def resized(x: Array, size: tuple[int, int], mode: str = "bilinear", **keywords: Any) -> torch.Tensor:
    return F.interpolate(torch.from_numpy(x), size=size, mode=mode, **keywords)


def nearest(x: Array, height: int, width: int) -> Array:
    rows, columns = (np.floor(np.arange(n) * (old / n)).astype(int) for n, old in ((height, 4), (width, 5)))
    return x[:, :, rows][..., columns]


CASES = [
    Case(
        "upsample_nearest_neighbor",
        lambda mb, a: mb.upsample_nearest_neighbor(x=a, scale_factor_height=2, scale_factor_width=3),
        [X],
        lambda x: resized(x, (8, 15), "nearest"),
    ),
    Case(
        "upsample_nearest_neighbor by floats",
        lambda mb, a: mb.upsample_nearest_neighbor(
            x=a, scale_factor_height=np.float32(2), scale_factor_width=np.float32(2)
        ),
        [X],
        lambda x: resized(x, (8, 10), "nearest"),
    ),
    Case(
        "upsample_nearest_neighbor by parts",
        lambda mb, a: mb.upsample_nearest_neighbor(
            x=a, scale_factor_height=np.float32(1.5), scale_factor_width=np.float32(2.6)
        ),
        [X],
        lambda x: F.interpolate(torch.from_numpy(x), scale_factor=(1.5, 2.6), mode="nearest"),
    ),
    Case(
        "crop",
        lambda mb, a: mb.crop(x=a, crop_height=[1, 0], crop_width=[0, 2]),
        [X],
        lambda x: x[:, :, 1:, :3],
    ),
    Case(
        "resize to the nearest",
        lambda mb, a: mb.resize(x=a, shape=[7, 3], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
        [X],
        lambda x: resized(x, (7, 3), "nearest"),
    ),
    Case(
        "resize_nearest_neighbor",
        lambda mb, a: mb.resize_nearest_neighbor(x=a, target_size_height=7, target_size_width=3),
        [X],
        lambda x: nearest(x, 7, 3),
    ),
    Case(
        "upsample_bilinear",
        lambda mb, a: mb.upsample_bilinear(x=a, scale_factor_height=2, scale_factor_width=2),
        [X],
        lambda x: resized(x, (8, 10), align_corners=True),
    ),
    Case(
        "upsample_bilinear, half pixels",
        lambda mb, a: mb.upsample_bilinear(x=a, scale_factor_height=2, scale_factor_width=2, align_corners=False),
        [X],
        lambda x: resized(x, (8, 10), align_corners=False),
    ),
    Case(
        "resize_bilinear",
        lambda mb, a: mb.resize_bilinear(
            x=a, target_size_height=6, target_size_width=9, sampling_mode="UNALIGN_CORNERS"
        ),
        [X],
        lambda x: resized(x, (6, 9), align_corners=False),
    ),
    Case(
        "resize_bilinear, corners",
        lambda mb, a: mb.resize_bilinear(
            x=a, target_size_height=6, target_size_width=9, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        [X],
        lambda x: resized(x, (6, 9), align_corners=True),
    ),
    Case(
        "resize",
        lambda mb, a: mb.resize(x=a, shape=[6, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
        [X],
        lambda x: resized(x, (6, 5), align_corners=False),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("resizing"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


@pytest.mark.parametrize(
    ("mode", "size", "places"),
    [
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("OFFSET_CORNERS", 6, [0.08, 0.25, 0.42, 0.58, 0.75, 0.92]),
    ],
)
def test_the_examples_of_the_definition(mode: str, size: int, places: list[float]) -> None:
    """Two pixels, resized to `size`."""
    np.testing.assert_allclose(GRIDS[mode](2, size).clip(0, 1), places, atol=0.005)


def test_what_is_not_documented_is_refused() -> None:
    with pytest.raises(ValueError, match=r"upsample_nearest_neighbor got -1.5 and 2"):
        upsample_nearest_neighbor(X, -1.5, 2.0)
    with pytest.raises(ValueError, match=r"crop got \(3, 2\) and \(0, 0\) for"):
        crop(X, (3, 2), (0, 0))
    with pytest.raises(ValueError, match=r"resize got 2 axes by NEAREST_NEIGHBOR and ALIGN_CORNERS"):
        resize(X, (7, 3), 2, "NEAREST_NEIGHBOR", "ALIGN_CORNERS")
    with pytest.raises(ValueError, match="both align_corners and half_pixel_centers"):
        upsample_bilinear_centred(X, 2.0, 2.0, align_corners=True, half_pixel_centers=True)
