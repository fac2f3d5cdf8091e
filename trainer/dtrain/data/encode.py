"""Images encoded once by a VAE, for the training of latent diffusion models."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drun.console import Report, silent
from drun.errors import ConfigError, DataError, NotFiniteError, UserError, memory_for
from drun.files import atomic, write_json
from drun.foreign import read_json
from dtrain import device as devices
from dtrain.data.image_files import MAX_PIXELS, fit, is_hidden, pixel_limit
from dtrain.data.latent_index import FORMAT
from dtrain.data.latents import FLIPPED, IMAGES, INDEX, MOMENTS
from dtrain.data.shards import checksum, is_array, shard_path, shard_rows, sums_path
from dtrain.data.sources import ImageSource, open_source
from dtrain.models import vae as vaes

#: Images in a shard: the most that a stopped run repeats, and what the processes take turns in.
SHARD_SIZE = 1024
#: In the output folder: what it is made of. Shards of different origin must never stand side by side.
ORIGIN = "origin.json"
_RECIPE = 1  # part of the origin: raise it when decoding, cropping or encoding gives other values
_BATCHES_AHEAD = 2  # decoded while the VAE works
#: A process waits this long for the others, whose last shard may take a CPU hours.
_PATIENCE = timedelta(days=2)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EncodeSummary:
    """What the output folder holds now, and what this process, number `rank`, added to it.

    shape: (C, h, w). num_classes: 0 without labels. num_encoded: images, without those of shards that were there.
    """

    num_images: int
    num_classes: int
    num_shards: int
    shape: tuple[int, int, int]
    rank: int
    num_encoded: int


def encode(
    source: Path,
    out: Path,
    vae: str,
    image_size: int,
    report: Report = silent,
    device: str = "auto",
    batch_size: int = 8,
    flip: bool = False,
) -> EncodeSummary:
    """Encode all images of `source`: out/moments-*.npy, out/images-*.npy and, last, out/index.json.

    source: see `open_source`. The short side of each image is resized to `image_size` and the centre is cropped as in
        ADM (Dhariwal & Nichol 2021).
    out: outside the source. moments: float32 (n, 2C, h, w), see `Vae.moments`; images: uint8 (n, H, W, 3), as
        cropped; n is SHARD_SIZE, less in the last shard.
    vae: see `vae.load`. device: auto, cpu, cuda or mps. batch_size: images that the VAE sees at a time.
    flip: also encode each cropped image mirrored left to right, as SiT and DiT train (`data.augment` with hflip):
        out/moments-flipped-*.npy. The latents of a mirrored image are not the mirrored latents; its pixels are the
        mirrored pixels, so they are not kept twice.

    A run that was stopped goes on with the shards that are missing. Processes that were started together, by
    `accelerate launch` or torchrun, take turns in the shards; what they write does not depend on their number.

    Raises:
        DataError: naming an image or label that is missing or wrong, or an output that holds something else.
        ConfigError: a setting is out of range, or a library or the VAE is missing.
        NotFiniteError: the VAE gave NaN or infinity.
    """
    if batch_size < 1 or image_size < 1:
        raise ConfigError(f"--batch got {batch_size} and --size got {image_size}, expected at least 1")
    images = open_source(source)
    labels, classes = images.labels()
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"the output '{out}' is inside the image folder '{source}': choose another folder")
    processes, place = _processes(device)
    job = _Job(images, out, vaes.load(vae, place), image_size, batch_size, flip)
    job.check()
    _claim(out, job.origin())
    shards = range(processes.process_index, len(job.rows), processes.num_processes)
    with pixel_limit(MAX_PIXELS), memory_for("encoding", f"lower --batch, which is {batch_size}"):
        num_encoded = _write_missing(job, shards, report if processes.is_main_process else silent)
    processes.wait_for_everyone()
    if processes.is_main_process:
        write_json(out / INDEX, job.index(labels, classes))
    processes.wait_for_everyone()
    num_classes = 0 if labels is None else len(classes or ()) or int(labels.max()) + 1
    rank = processes.process_index
    return EncodeSummary(len(images.names), num_classes, len(job.rows), job.shape, rank, num_encoded)


def _processes(device: str) -> tuple[Any, torch.device]:
    """accelerate's view of the processes that were started together, and the device of this one."""
    try:
        partial_state = import_module("accelerate").PartialState
    except ImportError as error:
        message = f"encoding needs accelerate, which cannot be imported ({error})"
        raise ConfigError(f"{message}: {vaes.INSTALL}") from error
    wanted = devices.choose(device, "fp32", "off").device
    state = partial_state(cpu=wanted.type == "cpu", timeout=_PATIENCE)
    return state, state.device if state.device.type == wanted.type else wanted


def _claim(out: Path, origin: dict[str, Any]) -> None:
    """Whoever is first writes down what `out` is made of; everyone compares.

    Raises:
        DataError: it is made of something else.
    """
    # Listed before the look at the origin: another process may be a shard ahead, but never without its origin.
    others = [file.name for file in out.iterdir() if not is_hidden(Path(file.name))] if out.is_dir() else []
    if not (out / ORIGIN).is_file():
        if others:
            raise DataError(f"the output '{out}' holds '{others[0]}', expected an empty folder: choose another")
        write_json(out / ORIGIN, origin)
    try:
        found = {"flip": False} | read_json(out / ORIGIN)  # older folders do not say it
    except UserError as error:
        raise DataError(f"cannot continue in '{out}': {error}") from error
    for key, now in origin.items():
        if found.get(key) != now:
            got = f"it was begun with another {key.replace('_', ' ')} ({str(found.get(key))[:12]}, now {str(now)[:12]})"
            raise DataError(f"cannot continue in '{out}': {got}; choose another folder, or remove it to start again")


# ---- shards ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    images: ImageSource
    out: Path
    vae: vaes.Vae
    image_size: int
    batch_size: int
    flip: bool

    @property
    def rows(self) -> list[int]:
        """Number of images in each shard."""
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
        """Path, shape and type of the images, the moments and those of the mirrored images; then of their checksums."""
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


def _write_missing(job: _Job, shards: Sequence[int], report: Report) -> int:
    """The number of images encoded."""
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


def _write_shard(job: _Job, shard: int, pool: ThreadPoolExecutor, advance: Callable[[int], None]) -> None:
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


def _moments(job: _Job, start: int, pixels: Pixels) -> NDArray[np.float32]:
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


def _batches(job: _Job, indices: range, pool: ThreadPoolExecutor) -> Iterator[tuple[int, Pixels]]:
    """Index of the first image, and uint8 (n, H, W, 3); some are decoded ahead, so memory stays bounded."""
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
