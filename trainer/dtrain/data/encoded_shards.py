"""The shards of encoded images: what each file holds, and how the missing ones are written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drun.console import Report
from drun.errors import ConfigError, NotFiniteError
from drun.files import atomic
from dtrain.data.image_files import fit
from dtrain.data.items import is_array
from dtrain.data.latent_index import FORMAT
from dtrain.data.latents import FLIPPED, IMAGES, MOMENTS
from dtrain.data.shards import checksum, shard_path, shard_rows, sums_path
from dtrain.data.sources import ImageSource
from dtrain.models.vae import Vae

#: Images in a shard. A run that was stopped repeats at most this many, and processes take turns in shards.
SHARD_SIZE = 1024
_RECIPE = 1  # part of the origin: raise it when decoding, cropping or encoding gives other values
_BATCHES_AHEAD = 2  # decoded while the VAE works

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EncodingJob:
    """Images to encode, the VAE that encodes them, and the folder of the shards."""

    images: ImageSource
    out: Path
    vae: Vae
    image_size: int
    batch_size: int
    flip: bool

    @property
    def rows(self) -> list[int]:
        """The number of images in each shard."""
        return shard_rows(len(self.images.names), SHARD_SIZE)

    @property
    def shape(self) -> tuple[int, int, int]:
        side = self.image_size // self.vae.downsampling
        return (self.vae.latent_channels, side, side)

    def check(self) -> None:
        pixels = self.vae.downsampling
        if self.image_size % pixels:
            got = f"--size got {self.image_size}, expected a multiple of {pixels}"
            raise ConfigError(f"{got}, for the VAE '{self.vae.name}' makes one latent of {pixels}x{pixels} pixels")

    def origin(self) -> dict[str, Any]:
        return {
            "source": self.images.fingerprint,
            "vae": self.vae.fingerprint,
            "image_size": self.image_size,
            "shard_size": SHARD_SIZE,
            "recipe": _RECIPE,
            "flip": self.flip,
        }

    def index(self, labels: NDArray[np.int64] | None, classes: list[str] | None) -> dict[str, Any]:
        return {
            **FORMAT,
            "image_size": self.image_size,
            "shape": self.shape,
            "scale": self.vae.scale,
            "bias": self.vae.bias,
            "vae": {"name": self.vae.name, "fingerprint": self.vae.fingerprint},
            "shard_size": SHARD_SIZE,
            "flipped": self.flip,
            "classes": classes,
            "labels": None if labels is None else labels.tolist(),
            "names": self.images.names,
        }

    def files(self, shard: int) -> list[tuple[Path, tuple[int, ...], str]]:
        """Path, shape and type of a shard's files: images, moments, moments of the mirrored images, then checksums."""
        rows, (channels, height, width) = self.rows[shard], self.shape
        moments = (rows, 2 * channels, height, width)
        return [
            (shard_path(self.out, IMAGES, shard), (rows, self.image_size, self.image_size, 3), "|u1"),
            *((shard_path(self.out, kind, shard), moments, "<f4") for kind in self.kinds[1:]),
            *((sums_path(self.out, kind, shard), (rows,), "<u4") for kind in self.kinds),
        ]

    @property
    def kinds(self) -> list[str]:
        return [IMAGES, MOMENTS, FLIPPED] if self.flip else [IMAGES, MOMENTS]

    def pixels(self, index: int) -> Pixels:
        return fit(self.images.read(index), self.image_size, 3)


def write_missing(job: EncodingJob, shards: Sequence[int], report: Report) -> int:
    """Write the missing shards, and return the number of images that were encoded."""
    rows, done = job.rows, 0
    total = sum(rows[shard] for shard in shards)
    missing = [shard for shard in shards if not all(is_array(*file) for file in job.files(shard))]

    def advance(num_images: int) -> None:
        nonlocal done
        done += num_images
        report("encoding images", done, total)

    num_missing = sum(rows[shard] for shard in missing)
    advance(total - num_missing)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for shard in missing:
            _write_shard(job, shard, pool, advance)
    return num_missing


def _write_shard(job: EncodingJob, shard: int, pool: ThreadPoolExecutor, advance: Callable[[int], None]) -> None:
    first = shard * SHARD_SIZE
    with ExitStack() as stack:
        files = []
        for path, shape, dtype in job.files(shard):
            files.append(stack.enter_context(stack.enter_context(atomic(path)).open("wb")))
            _write_header(files[-1], shape, dtype)
        for start, pixels in _batches(job, range(first, first + job.rows[shard]), pool):
            versions = [pixels, pixels[:, :, ::-1].copy()] if job.flip else [pixels]
            arrays: list[NDArray[Any]] = [pixels, *(_moments(job, start, version) for version in versions)]
            sums = [np.array([checksum(item) for item in array], "<u4") for array in arrays]
            for file, array in zip(files, [*arrays, *sums], strict=True):
                file.write(array.tobytes())
            advance(len(pixels))


def _moments(job: EncodingJob, start: int, pixels: Pixels) -> NDArray[np.float32]:
    """Moments of the images from number `start` on: float32 (n, 2C, h, w)."""
    moments = job.vae.moments(torch.from_numpy(pixels)).cpu()
    finite = torch.isfinite(moments).flatten(1).all(1)
    if not finite.all():
        name = job.images.names[start + int(finite.int().argmin())]
        raise NotFiniteError(f"the VAE '{job.vae.name}' gave NaN or infinity for '{name}': use another VAE")
    array: NDArray[np.float32] = moments.numpy()
    return array


def _write_header(file: Any, shape: Any, dtype: Any) -> None:
    npy: Any = np.lib.format  # its functions carry no types
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _batches(job: EncodingJob, indices: range, pool: ThreadPoolExecutor) -> Iterator[tuple[int, Pixels]]:
    """Batches as the index of the first image and uint8 (n, H, W, 3).

    A few are decoded ahead, so memory stays bounded.
    """
    pending: deque[tuple[int, list[Future[Pixels]]]] = deque()
    for start in range(indices.start, indices.stop, job.batch_size):
        batch = range(start, min(start + job.batch_size, indices.stop))
        pending.append((start, [pool.submit(job.pixels, index) for index in batch]))
        if len(pending) > _BATCHES_AHEAD:
            yield _decoded(*pending.popleft())
    while pending:
        yield _decoded(*pending.popleft())


def _decoded(start: int, batch: list[Future[Pixels]]) -> tuple[int, Pixels]:
    return start, np.stack([image.result() for image in batch])
