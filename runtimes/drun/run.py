"""A sampling run: many images, in batches, into a folder, resumable and shardable.

The folder is the run's state. A finished image is a file; a run, a resumed run and a shard all compute just the
images that are missing, and whoever finds all of them there writes `samples.npz`, `grid.png` and `raw.npz`.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun import images, labels, samplers
from drun.arrays import Array
from drun.backends import Backend
from drun.bundle import Bundle
from drun.console import Report
from drun.denoiser import Denoiser
from drun.errors import ConfigError, NotFiniteError
from drun.files import atomic, read_json, sha256, write_json
from drun.guidance import Guided, with_guidance
from drun.loop import sample
from drun.noise import FileNoise, NoiseSource, PhiloxNoise
from drun.table import StepTable
from drun.trajectory import TrajectoryWriter

GRID_IMAGES = 64


@dataclass(frozen=True)
class Settings:
    """What an image depends on, besides the bundle and the backend."""

    sampler: str
    options: dict[str, Any]
    num_steps: int
    seed: int = 0
    labels: str | None = None
    cfg: float = 1.0
    interval: tuple[float, float] | None = None
    cfg_channels: int | None = None  # None: the bundle's; 0: all
    state_dtype: str = "float32"
    noise: str | None = None  # sha256 of the noise file


@dataclass(frozen=True)
class Output:
    """What to compute and where to write it."""

    folder: Path
    num_images: int
    batch: int = 8
    shard: tuple[int, int] = (0, 1)
    save_raw: bool = False
    trajectory: Path | None = None
    noise_file: Path | None = None


@dataclass
class Sampling:
    """A bundle, a backend and settings, ready to draw any of the run's images."""

    bundle: Bundle
    backend: Backend
    settings: Settings
    max_batch: tuple[int, int] = (1, 2**31)
    noise_file: FileNoise | None = None
    table: StepTable = field(init=False)

    def __post_init__(self) -> None:
        manifest, settings = self.bundle.manifest, self.settings
        table = samplers.step_table(
            settings.sampler, self.bundle.process, manifest.prediction, settings.num_steps, settings.options
        )
        self.table = with_guidance(table, settings.cfg, settings.interval)
        self.denoiser = Denoiser(self.backend, self.bundle, self.max_batch)

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        settings = self.settings
        return labels.choose(
            settings.labels, indices, self.bundle.manifest.classes, settings.seed, guided=settings.cfg != 1
        )

    def draw(self, indices: Sequence[int], on_step: Callable[[int, Array], None]) -> NDArray[Any]:
        """The final states of the samples `indices`: (N, C, H, W) of the state dtype.

        Raises:
            NotFiniteError: a state that is not finite, at the step where it happened.
        """
        manifest, settings = self.bundle.manifest, self.settings
        channels = manifest.guidance["channels"] if settings.cfg_channels is None else settings.cfg_channels
        noise = self._noise(indices)
        x = noise().astype(settings.state_dtype)
        on_step(-1, x)
        guided = Guided(
            self.denoiser,
            self.labels(indices),
            manifest.classes.null_label if manifest.classes else 0,
            channels or None,
        )

        def guarded(row: int, x: Array) -> None:
            if not math.isfinite(x.sum()):
                raise NotFiniteError(
                    f"the images are not finite after step {row + 1} of {len(self.table.rows)} "
                    f"(t = {self.table.rows[row].t:g}): try --precision fp32, clip_x0=true or another grid"
                )
            on_step(row, x)

        with np.errstate(over="ignore", invalid="ignore"):  # `guarded` says it in a sentence
            return np.asarray(sample(guided, x, self.table, noise, guarded))

    def _noise(self, indices: Sequence[int]) -> NoiseSource:
        if self.noise_file is not None:
            return self.noise_file.batch(indices)
        return PhiloxNoise(self.settings.seed, indices, self.bundle.manifest.data.shape)


def open_sampling(
    bundle: Bundle, backend: Backend, settings: Settings, precision: str | None = None, output: Output | None = None
) -> Sampling:
    """Join the parts of a run and check them against each other before anything is computed.

    Raises:
        ConfigError: settings that do not fit the model.
    """
    batch = bundle.artifact(backend.formats, precision).batch if backend.formats else (1, 2**31)
    sampling = Sampling(bundle, backend, settings, batch)
    sampling.labels([0])
    PhiloxNoise(settings.seed, [], bundle.manifest.data.shape)
    if output is not None and output.noise_file is not None:
        sampling.noise_file = FileNoise(
            output.noise_file, output.num_images, bundle.manifest.data.shape, sampling.table.num_noises
        )
    return sampling


def run(sampling: Sampling, output: Output, record: dict[str, Any], report: Report) -> int:
    """Compute the missing images of this shard, then assemble if all are there.

    Args:
        record: what `run.json` says besides the settings.
        report: told the image-steps done, after every step of a batch.

    Returns:
        How many images were computed now.

    Raises:
        ConfigError: the folder holds images of other settings. UserError: it cannot be written.
    """
    folder = output.folder
    _claim(folder, sampling, output, record)
    todo, num_rows = missing(output), len(sampling.table.rows)
    for start in range(0, len(todo), output.batch):
        indices = todo[start : start + output.batch]
        animated = output.trajectory if indices[0] == output.shard[0] else None

        def on_row(row: int, done: int = start * num_rows, count: int = len(indices)) -> None:
            report("sampling", done + (row + 1) * count, len(todo) * num_rows)

        x = _draw(sampling, indices, animated, on_row)
        _save(folder, indices, x, output.save_raw)
    if not missing(Output(folder, output.num_images, save_raw=output.save_raw)):
        assemble(sampling, output)
    return len(todo)


def missing(output: Output) -> list[int]:
    """The samples of this shard that the folder lacks, in order; a trajectory shows the whole first batch."""
    shard, num_shards = output.shard
    mine = range(shard, output.num_images, num_shards)
    todo = [
        i
        for i in mine
        if not images.image_path(output.folder, i).is_file()
        or (output.save_raw and not _raw_path(output.folder, i).is_file())
    ]
    if output.trajectory and (not output.trajectory.exists() or todo[:1] == [shard]):
        first = list(mine)[: output.batch]
        todo = first + [i for i in todo if i not in first]
    return todo


def assemble(sampling: Sampling, output: Output) -> None:
    """Write `samples.npz` (the ADM evaluator's layout), `grid.png` and `raw.npz` from the finished images."""
    folder, n = output.folder, output.num_images
    channels, height, width = sampling.bundle.manifest.data.shape
    classes = sampling.labels(range(n))
    label_rows: dict[str, images.Rows] = {} if classes is None else {"labels": ((n,), np.int64, [classes])}
    shape = (n, height, width, channels)
    pixels: dict[str, images.Rows] = {"arr_0": (shape, np.uint8, images.read_all(folder, n))}
    if label_rows:
        pixels["arr_1"] = label_rows["labels"]
    images.write_npz(folder / "samples.npz", pixels)
    images.write_png(
        folder / "grid.png", images.grid(np.stack(list(images.read_all(folder, min(n, GRID_IMAGES)))))
    )
    if output.save_raw:
        rows = (np.load(_raw_path(folder, i)) for i in range(n))
        raw: dict[str, images.Rows] = {"x": ((n, channels, height, width), sampling.settings.state_dtype, rows)}
        images.write_npz(folder / "raw.npz", raw | label_rows)


def _draw(
    sampling: Sampling, indices: Sequence[int], animated: Path | None, on_row: Callable[[int], None]
) -> NDArray[Any]:
    with TrajectoryWriter(animated, len(sampling.table.rows)) if animated else nullcontext() as writer:

        def on_step(row: int, x: Array) -> None:
            if writer is not None:
                writer.add(row, x)
            if row >= 0:
                on_row(row)

        return sampling.draw(indices, on_step)


def _save(folder: Path, indices: Sequence[int], x: NDArray[Any], save_raw: bool) -> None:
    for i, state, image in zip(indices, x, images.to_uint8(x), strict=True):
        if save_raw:
            with atomic(_raw_path(folder, i)) as temporary, temporary.open("wb") as file:
                np.save(file, state)
        images.write_png(images.image_path(folder, i), image)


def _raw_path(folder: Path, index: int) -> Path:
    return folder / "raw" / f"{index:06d}.npy"


def _claim(folder: Path, sampling: Sampling, output: Output, record: dict[str, Any]) -> None:
    """Write `run.json`, or refuse a folder that holds images made otherwise."""
    identity = {
        "checkpoint_sha256": sampling.bundle.manifest.model.checkpoint["sha256"],
        "backend": record["backend"],
        "precision": record["precision"],
    } | asdict(sampling.settings)
    path = folder / "run.json"
    if path.is_file():
        previous = read_json(path).get("settings", {})
        differing = [key for key, value in identity.items() if previous.get(key) != _plain(value)]
        if differing:
            key = differing[0]
            raise ConfigError(
                f"'{folder}' holds images made with {key} = {previous.get(key)}, this run has {identity[key]}: "
                "choose another --out, or delete the folder"
            )
    write_json(path, {"settings": identity, "num_images": output.num_images} | record | environment())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def environment() -> dict[str, Any]:
    """The machine and library versions, for run.json."""
    return {
        "versions": {"dexport": version("dexport"), "numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
        "command": sys.argv,
    }


def noise_digest(path: Path | None) -> str | None:
    """sha256 of the noise file, or None."""
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"no such noise file: '{path}'")
    return sha256(path)
