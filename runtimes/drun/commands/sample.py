"""`drun` and `drun sample`: a run from what was typed to what was written."""

from __future__ import annotations

import time
from pathlib import Path

from drun import backends as registry
from drun.bundle.card import Classes
from drun.bundle.reading import Bundle, open_bundle
from drun.commands.options import parse_channels, parse_interval, parse_shard, resolve_sampler
from drun.console import progress, say
from drun.run.decoder import has_pixels
from drun.run.folder import run
from drun.run.labels import in_turn
from drun.run.naming import run_name
from drun.run.noise_file import noise_digest
from drun.run.output import Output
from drun.run.sampling import SamplingSettings, open_sampling

#: Where the folders of runs lie, by the name of the bundle.
OUT = Path("out")
#: Of classes, that are printed after a run.
MAX_NAMES = 20


def sample(
    backend_id: str, bundle_path: Path | None, *, options: list[str], sampler: str | None, steps: int, shard: str,
    interval: str | None, cfg_channels: str, precision: str | None, threads: int, out: Path | None,
    trajectory: Path | None, num_images: int, batch: int, save_raw: bool, noise: Path | None, seed: int,
    labels: str | None, cfg: float, state_dtype: str, uint8: str,
) -> None:  # fmt: skip
    formats = registry.load(backend_id).formats
    bundle = open_bundle(bundle_path)
    name, chosen = resolve_sampler(bundle, sampler, options)
    settings = SamplingSettings(
        sampler=name, options=chosen, num_steps=steps, seed=seed, labels=labels, cfg=cfg,
        interval=parse_interval(interval), cfg_channels=parse_channels(cfg_channels), state_dtype=state_dtype,
        uint8=uint8, noise=noise_digest(noise),
    )  # fmt: skip
    _, usual = resolve_sampler(bundle, sampler, [])
    folder = out or OUT / bundle.name / run_name(backend_id, settings, usual, _special(bundle, formats, precision))
    runtime = {"threads": threads}
    output = Output(
        folder, num_images, batch, parse_shard(shard), save_raw=save_raw, trajectory=trajectory, options=runtime
    )
    start = time.monotonic()
    backend = registry.open_backend(backend_id, bundle, precision, runtime)
    opened = bundle.artifact(formats, precision).precision if formats else None
    sampling = open_sampling(bundle, backend, settings, opened, noise, num_images)
    say(f"{bundle.name} on {backend.describe()}: {num_images} images, {name}, {steps} steps, seed {seed}")
    if not has_pixels(bundle):
        say("this bundle has no decoder, so only latents are written: export it again with dexport ... --vae")
    with progress() as report:
        num_computed = run(sampling, output, {"backend": backend_id, "precision": opened}, report)
    backend.close()
    _say_result(output, num_computed, time.monotonic() - start)
    _say_classes(bundle.manifest.classes, labels)


def _special(bundle: Bundle, formats: tuple[str, ...], precision: str | None) -> dict[str, str]:
    """What is opened, where it is not what `dexport` and `drun` take unasked."""
    weights = bundle.manifest.model.checkpoint["weights"]
    special = {} if weights == "ema" else {"weights": weights}
    if precision is None or not formats or precision == bundle.artifact(formats).precision:
        return special
    return special | {"precision": precision}


def _say_result(output: Output, num_computed: int, seconds: float) -> None:
    folder = output.folder
    if num_computed:
        say(f"{num_computed} images computed in {seconds:.1f} s, {output.num_images} wanted")
    else:
        say("nothing to compute: the images are there already")
    written = [name for name in ("grid.png", "samples.npz", "raw.npz") if (folder / name).is_file()]
    if written:
        say(f"{folder}/{', '.join(written)}")
    else:
        say(f"{folder}/ waits for the other shards; the last one writes samples.npz and grid.png")
    if output.trajectory and output.trajectory.is_file():
        say(f"{output.trajectory}")


def _say_classes(classes: Classes | None, spec: str | None) -> None:
    """What the images of the grid show, where classes have names."""
    if classes is not None and classes.names and (labels := in_turn(spec, classes)) is not None:
        names = [classes.names[label] for label in labels[:MAX_NAMES]]
        say(f"classes in turn: {', '.join(names)}{', …' if len(labels) > MAX_NAMES else ''}")
