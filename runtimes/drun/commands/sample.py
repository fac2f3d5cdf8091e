"""`drun` and `drun sample`: one run, from the typed options to the written files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from drun import backends
from drun.bundle.card import Card, Classes
from drun.bundle.reading import Bundle, open_bundle
from drun.commands.options import parse_assignments, parse_channels, parse_interval, parse_shard
from drun.commands.suggest import warn_of_unproven
from drun.console import answer, progress, say
from drun.run.decoder import has_pixels
from drun.run.folder import run
from drun.run.labels import in_turn
from drun.run.naming import run_name
from drun.run.noise_file import noise_digest
from drun.run.opening import Candidate, choose, choose_with_device, open_proven
from drun.run.output import Output
from drun.run.sampling import resolve_sampler
from drun.run.session import Session
from drun.settings import AUTO, RuntimeOptions, SamplingSettings

#: The folder of all runs; it has a folder for each bundle.
OUT = Path("out")
#: The most names of classes that are printed after a run.
MAX_NAMES = 20


@dataclass(frozen=True)
class RunOptions:
    """The options of a run, as they were typed."""

    backend: str | None
    precision: str | None
    artifact: str | None
    runtime: RuntimeOptions
    sampler: str | None
    options: list[str]
    steps: int
    seed: int
    labels: str | None
    cfg: float
    interval: str | None
    cfg_channels: str
    state_dtype: str
    uint8: str
    noise: Path | None
    num_images: int
    batch: int
    shard: str
    out: Path | None
    save_raw: bool
    trajectory: Path | None

    def settings(self, card: Card) -> SamplingSettings:
        """What an image depends on. Raises ConfigError if an option is wrong."""
        name, options = resolve_sampler(card, self.sampler, parse_assignments(self.options))
        interval, channels = parse_interval(self.interval), parse_channels(self.cfg_channels)
        noise = noise_digest(self.noise)
        return SamplingSettings(
            name, options, self.steps, self.seed, self.labels, self.cfg, interval, channels, self.state_dtype,
            self.uint8, noise,
        )  # fmt: skip

    def output(self, folder: Path) -> Output:
        """What the run writes. Raises ConfigError if the shard is wrong."""
        shard = parse_shard(self.shard)
        return Output(
            folder, self.num_images, self.batch, shard, save_raw=self.save_raw, trajectory=self.trajectory
        )  # fmt: skip


def sample(bundle_path: Path | None, typed: RunOptions) -> None:
    if typed.backend not in (None, AUTO):
        backends.load(typed.backend)  # an unknown backend is refused before a bundle is looked for
    bundle = open_bundle(bundle_path)
    card = bundle.manifest.card
    settings = typed.settings(card)
    candidate, options = choose_with_device(bundle, typed.backend, typed.precision, typed.artifact, typed.runtime)
    output = typed.output(typed.out or OUT / bundle.name / _run_name(bundle, candidate, settings, typed.sampler))
    warn_of_unproven(bundle, candidate.artifact)
    with Session(bundle, open_proven(bundle, candidate, options)) as session:
        sampling = session.sampling(settings, typed.noise, typed.num_images)
        candidate, where = session.opened.candidate, session.opened.describe()
        drawn = f"{typed.num_images} images, {settings.sampler}, {settings.num_steps} steps, seed {settings.seed}"
        artifact = f", {candidate.artifact.id}," if candidate.artifact else ""
        say(f"{bundle.name}{artifact} on {where}: {drawn}")
        if not has_pixels(bundle):
            say("this bundle has no decoder, so only latents are written: export it again with dexport ... --vae")
        start = time.monotonic()
        with progress() as report:
            num_computed = run(session, sampling, output, report)
    seconds, files = time.monotonic() - start, _files(output)
    _say_result(output, files, num_computed, seconds)
    _say_classes(card.classes, settings.labels)
    answer(
        {"bundle": bundle.path, "backend": candidate.backend}
        | {"artifact": candidate.artifact and candidate.artifact.id, "precision": candidate.arithmetic}
        | {"runs_on": where, "folder": output.folder, "files": files}
        | {"num_images": typed.num_images, "num_computed": num_computed, "seconds": seconds}
    )


def _run_name(bundle: Bundle, candidate: Candidate, settings: SamplingSettings, sampler: str | None) -> str:
    """The name of the run's folder, with everything that differs from the defaults of `dexport` and `drun`."""
    _, usual = resolve_sampler(bundle.manifest.card, sampler, {})
    weights = bundle.manifest.model.checkpoint["weights"]
    special = {} if weights == "ema" else {"weights": weights}
    default = choose(bundle, candidate.backend)
    if candidate.artifact and default.artifact and candidate.artifact != default.artifact:
        special["artifact"] = candidate.artifact.id
    if candidate.arithmetic != default.arithmetic:
        special["precision"] = candidate.arithmetic
    return run_name(candidate.backend, settings, usual, special)


def _files(output: Output) -> list[Path]:
    """The names of the files that the run has written beside its images."""
    whole = [output.folder / name for name in ("grid.png", "samples.npz", "raw.npz")]
    return [path for path in (*whole, output.trajectory) if path is not None and path.is_file()]


def _say_result(output: Output, files: list[Path], num_computed: int, seconds: float) -> None:
    if num_computed:
        say(f"{num_computed} images computed in {seconds:.1f} s, {output.num_images} wanted")
    else:
        say("nothing to compute: the images are there already")
    if written := [path.name for path in files if path != output.trajectory]:
        say(f"{output.folder}/{', '.join(written)}")
    else:
        say(f"{output.folder}/ waits for the other shards; the last one writes samples.npz and grid.png")
    if output.trajectory in files:
        say(f"{output.trajectory}")


def _say_classes(classes: Classes | None, spec: str | None) -> None:
    """Print what the images of the grid show, if classes have names."""
    if classes is not None and classes.names and (labels := in_turn(spec, classes)) is not None:
        names = [classes.names[label] for label in labels[:MAX_NAMES]]
        say(f"classes in turn: {', '.join(names)}{', …' if len(labels) > MAX_NAMES else ''}")
