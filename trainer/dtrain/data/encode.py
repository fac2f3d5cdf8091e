"""Encodes images once by a VAE, for the training of latent diffusion models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from drun.console import Report, silent
from drun.errors import ConfigError, DataError, UserError, memory_for
from drun.files import write_json
from drun.foreign import read_json
from dtrain import device as devices
from dtrain.data.encoded_shards import EncodingJob, write_missing
from dtrain.data.image_files import MAX_PIXELS, is_hidden, pixel_limit
from dtrain.data.latents import INDEX
from dtrain.data.sources import open_source
from dtrain.models import vae as vaes

#: The file that records the origin of an output folder. Shards of different origins must never lie side by side.
ORIGIN = "origin.json"
#: How long a process waits for the others: their last shard may take a CPU hours.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class EncodeSummary:
    """The content of the output folder, and the part that this process, number `rank`, added to it.

    shape: (C, h, w). num_classes: 0 without labels. num_encoded: the images that were encoded now.
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

    A run that was stopped continues with the missing shards. Processes that were started together, by
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
    job = EncodingJob(images, out, vaes.load(vae, place), image_size, batch_size, flip)
    job.check()
    _claim(out, job.origin())
    shards = range(processes.process_index, len(job.rows), processes.num_processes)
    with pixel_limit(MAX_PIXELS), memory_for("encoding", f"lower --batch, which is {batch_size}"):
        num_encoded = write_missing(job, shards, report if processes.is_main_process else silent)
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
    """The first process records the origin of `out`, and all processes compare it with theirs.

    Raises:
        DataError: it has another origin.
    """
    # The files are listed before the origin is read: another process may be a shard ahead, but it wrote the origin
    # first.
    others = [file.name for file in out.iterdir() if not is_hidden(Path(file.name))] if out.is_dir() else []
    if not (out / ORIGIN).is_file():
        if others:
            raise DataError(f"the output '{out}' holds '{others[0]}', expected an empty folder: choose another")
        write_json(out / ORIGIN, origin)
    try:
        found = {"flip": False} | read_json(out / ORIGIN)  # older folders do not state it
    except UserError as error:
        raise DataError(f"cannot continue in '{out}': {error}") from error
    for key, now in origin.items():
        if found.get(key) != now:
            got = f"it was begun with another {key.replace('_', ' ')} ({str(found.get(key))[:12]}, now {str(now)[:12]})"
            raise DataError(f"cannot continue in '{out}': {got}; choose another folder, or remove it to start again")
