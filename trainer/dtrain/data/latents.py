"""Latents to train on, made by `dtrain encode` or by REPA (Yu et al. 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.errors import DataError, door
from drun.foreign import read_json, regular
from dtrain.data.image_files import IMAGE_SUFFIXES
from dtrain.data.items import ArrayFiles, Header, Indices, Items, Names, Pictures, read_header
from dtrain.data.labels import LABELS, read_labels
from dtrain.data.latent_index import check_index
from dtrain.data.scanning import Listing, fingerprint, scan
from dtrain.data.shards import Shards

INDEX, MOMENTS, IMAGES = "index.json", "moments", "images"
#: Moments of the images mirrored left to right.
FLIPPED = f"{MOMENTS}-flipped"
# What REPA's preparation is fixed to: the VAE of Stable Diffusion 1.x.
_REPA_SCALE, _REPA_DOWNSAMPLING = 0.18215, 8
# Its images are drawn with the averaged decoder; the encoders of both releases are equal.
_REPA_VAE = "stabilityai/sd-vae-ft-ema"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Latents:
    """The VAE's posterior of each of N images. Memory grows with N only by labels and file names.

    shape: (C, h, w) of a latent. image_size: pixels. labels: int64 (N,) in 0..num_classes - 1, or None.
    vae: name or folder of the VAE whose decoder draws the images. scale, bias: C values each, for `sample_moments`.
    fingerprint: of the files' names, sizes and times.
    """

    shape: tuple[int, int, int]
    image_size: int
    labels: Indices | None
    num_classes: int
    vae: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    fingerprint: str
    num_images: int
    files: Items
    pictures: Items | None
    flipped: Items | None = None  # moments of the mirrored images, if there are any
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.num_images

    def moments(self, indices: Indices, mirrored: Mask | None = None) -> NDArray[np.float32]:
        """[mean | standard deviation] of the images `indices`, int64 (n,) in 0..N - 1: float32 (n, 2C, h, w).

        mirrored: bool (n,), of which images those of the mirror image; not one unless `flipped` is there.

        Raises:
            DataError: naming a file that is gone, was changed, or holds NaN, infinity or a deviation below 0.
            IndexError: an index is out of range.
        """
        if mirrored is None or not mirrored.any():
            return self._right(self.files, indices)
        assert self.flipped is not None
        values = np.empty((len(indices), 2 * self.shape[0], *self.shape[1:]), np.float32)
        for items, chosen in ((self.files, ~mirrored), (self.flipped, mirrored)):
            values[chosen] = self._right(items, indices[chosen])
        return values

    def _right(self, items: Items, indices: Indices) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._read(items, indices)
        right = np.isfinite(values).all(axis=(1, 2, 3)) & (values[:, self.shape[0] :] >= 0).all(axis=(1, 2, 3))
        if not right.all():
            where = items.where(int(indices[right.argmin()]))
            expected = "expected finite numbers, and standard deviations from 0 on"
            raise DataError(f"broken latent: {where} holds others, {expected}; encode it again")
        return values

    @property
    def images(self) -> Callable[[Indices], NDArray[np.uint8]] | None:
        """(indices: int64 (n,)) -> uint8 (n, image_size, image_size, 3), what the VAE saw; None if they are not kept.

        It raises as `moments` does, and DataError for an image of another size.
        """
        return None if self.pictures is None else partial(self._read, self.pictures)

    def _read(self, items: Items, indices: Indices) -> NDArray[Any]:
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"got indices {indices.min()}..{indices.max()}, expected 0..{len(self) - 1}")
        return items.read(indices)


def sample_moments(
    moments: Tensor, noise: Tensor, scale: Sequence[float] | Tensor, bias: Sequence[float] | Tensor
) -> Tensor:
    """A draw of the latents as the diffusion model sees them: (mean + std * noise) * scale + bias.

    moments: [mean | std], float32 (N, 2C, h, w); noise: standard normal (N, C, h, w); scale, bias: C values.
    Returns float32 (N, C, h, w), on the device of `moments`.
    """
    mean, std = moments.chunk(2, dim=1)
    by_channel = [torch.as_tensor(values, dtype=mean.dtype, device=mean.device) for values in (scale, bias)]
    scales, biases = (values.view(-1, 1, 1) for values in by_channel)
    return (mean + std * noise) * scales + biases


def are_latents(folder: Path) -> bool:
    """Whether a folder holds latents of dtrain encode or REPA, complete or not."""
    return any((folder / name).exists() for name in (INDEX, "vae-sd")) or any(folder.glob(f"{MOMENTS}-*.npy"))


def open_latents(folder: Path) -> Latents:
    """A folder of `dtrain encode`, or one with REPA's vae-sd/ and, unless they were deleted, images/.

    REPA's files are paired by name: images/00000/img00000000.png is vae-sd/00000/img-mean-std-00000000.npy, whose
    label is in vae-sd/dataset.json. The size of every file is checked here, its content when it is read.

    Raises:
        DataError: naming what is missing, left over, of another shape, or has no label.
    """
    if (folder / INDEX).is_file():
        return _open_encoded(folder)
    if (folder / "vae-sd").is_dir():
        return _open_repa(folder / "vae-sd", folder / "images")
    if any(folder.glob(f"{MOMENTS}-*.npy")):
        raise DataError(f"the latents in '{folder}' are not complete: run the same dtrain encode again")
    raise DataError(f"no latents in '{folder}': expected {INDEX}, which dtrain encode writes, or REPA's folder vae-sd")


# ---- the two layouts ------------------------------------------------------------------------------------


def _open_encoded(folder: Path) -> Latents:
    with door(f"wrong index '{folder / INDEX}'", DataError, "run the same dtrain encode again"):
        index = read_json(folder / INDEX, advice="run the same dtrain encode again")
        check_index(index)
    num_images, size, image_size = len(index["names"]), index["shard_size"], index["image_size"]
    channels, height, width = index["shape"]
    scale, bias = (tuple(map(float, index[key])) for key in ("scale", "bias"))
    labels = None if index["labels"] is None else np.array(index["labels"], np.int64)
    kinds = [MOMENTS, FLIPPED] if index.get("flipped") else [MOMENTS]
    moments = [Shards.open(folder, kind, size, num_images, (2 * channels, height, width), np.float32) for kind in kinds]
    images = Shards.open(folder, IMAGES, size, num_images, (image_size, image_size, 3), np.uint8)
    return Latents(
        shape=(channels, height, width),
        image_size=image_size,
        labels=labels,
        num_classes=len(index.get("classes") or ()) or _num_classes(labels),
        class_names=tuple(index.get("classes") or ()),
        vae=index["vae"]["name"],
        scale=scale,
        bias=bias,
        fingerprint=fingerprint(_own(scan(folder, (".npy", INDEX)))),
        num_images=num_images,
        files=moments[0],
        pictures=images,
        flipped=moments[1] if len(moments) > 1 else None,
    )


def _own(listing: Listing) -> Listing:
    """The files of `dtrain encode` in a folder, without others, such as a teacher's features."""
    prefixes = (INDEX, f"{MOMENTS}-", f"{IMAGES}-", "crc32-")
    return {name: stat for name, stat in listing.items() if name.startswith(prefixes) and "/" not in name}


def _num_classes(labels: Indices | None) -> int:
    return 0 if labels is None else int(labels.max()) + 1


def _open_repa(features: Path, pictures: Path) -> Latents:
    listing = scan(features, (".npy",))
    names = sorted(listing)
    if not names:
        raise DataError(f"no latents in '{features}': expected files such as 00000/img-mean-std-00000000.npy")
    header = _check_sizes(features, names, listing)
    channels, height, width = header.shape[0] // 2, *header.shape[1:]
    labels = _repa_labels(features / LABELS, names)
    kept = scan(pictures, IMAGE_SUFFIXES) if pictures.is_dir() else {}
    images = None
    if pictures.is_dir():
        images = Pictures(Names.of(pictures, _paired(features, names, pictures, kept)), _REPA_DOWNSAMPLING * height)
        images.read(np.zeros(1, np.int64))  # of the right size?
    return Latents(
        shape=(channels, height, width),
        image_size=_REPA_DOWNSAMPLING * height,
        labels=labels,
        num_classes=_num_classes(labels),
        vae=_REPA_VAE,
        scale=(_REPA_SCALE,) * channels,
        bias=(0.0,) * channels,
        fingerprint=fingerprint(listing, kept),
        num_images=len(names),
        files=ArrayFiles(Names.of(features, names), header),
        pictures=images,
    )


def _check_sizes(folder: Path, names: list[str], listing: Listing) -> Header:
    """Check all files by size, with the header of the first.

    Another shape gives another size, and a million headers take an hour.
    """
    first = folder / names[0]
    header = read_header(first)
    if header.dtype != np.float32 or len(header.shape) != 3 or header.shape[0] % 2 or 0 in header.shape:
        raise DataError(f"wrong latent '{first}': got {header}, expected float32 (2C, h, w), mean and deviation")
    num_bytes = header.offset + 4 * int(np.prod(header.shape))
    odd = next((name for name in names if listing[name][0] != num_bytes), None)
    if odd is not None:
        got = f"{listing[odd][0]} bytes, expected {num_bytes} as in {names[0]}"
        raise DataError(f"wrong latent '{folder / odd}': got {got}; encode it again")
    return header


def _repa_labels(path: Path, names: list[str]) -> Indices | None:
    if not path.exists():
        return None
    with door(f"cannot read '{path}'"):
        content = regular(path).read_bytes()
    labels = read_labels(content, names, f"'{path}'")
    return None if labels is None else np.array(labels, np.int64)


def _paired(features: Path, names: list[str], pictures: Path, kept: Listing) -> list[str]:
    """The image of each latent, in any order of the files."""
    by_key = {_key(name): name for name in sorted(kept)}
    if len(by_key) < len(kept):
        twice = next(name for name in kept if by_key[_key(name)] != name)
        raise DataError(f"two images for one latent: '{pictures / twice}' and '{by_key[_key(twice)]}'; remove one")
    for name in names:
        if _key(name) not in by_key:
            raise DataError(f"no image in '{pictures}' for latent '{features / name}': add it, or move images/ away")
    extra = sorted(set(by_key) - {_key(name) for name in names})
    if extra:
        raise DataError(f"no latent in '{features}' for image '{pictures / by_key[extra[0]]}': encode or remove it")
    return [by_key[_key(name)] for name in names]


def _key(name: str) -> str:
    """00000/img00000000.png and 00000/img-mean-std-00000000.npy are both 00000/00000000."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.rpartition('.')[0].removeprefix('img').removeprefix('-mean-std-')}"
