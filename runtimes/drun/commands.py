"""What the commands of `drun` do: resolve, call the library, print. Apart from `cli`, so that --help is quick."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drun import backends as registry
from drun import cache as caches
from drun.bundle import reading as bundles
from drun.bundle.average import of_initial_weights
from drun.bundle.manifest import Artifact, Classes, TrainedOn
from drun.bundle.reading import Bundle
from drun.console import progress, say, warn
from drun.diffusion import samplers as sampler_registry
from drun.errors import ConfigError, ParityError
from drun.run import parity
from drun.run.decoder import has_pixels
from drun.run.folder import run
from drun.run.labels import in_turn
from drun.run.noise_file import noise_digest
from drun.run.output import Output
from drun.run.sampling import Settings, open_sampling

#: Of classes, that are printed after a run.
MAX_NAMES = 20


def sample(
    backend_id: str, bundle_path: Path | None, *, options: list[str], sampler: str | None, steps: int, shard: str,
    interval: str | None, cfg_channels: str, precision: str | None, threads: int, out: Path | None,
    trajectory: Path | None, num_images: int, batch: int, save_raw: bool, noise: Path | None, seed: int,
    labels: str | None, cfg: float, state_dtype: str, uint8: str,
) -> None:  # fmt: skip
    bundle = bundles.read(bundle_path or bundles.newest(Path("bundles")))
    name, chosen = resolve_sampler(bundle, sampler, options)
    settings = Settings(
        sampler=name, options=chosen, num_steps=steps, seed=seed, labels=labels, cfg=cfg, interval=_interval(interval),
        cfg_channels=_channels(cfg_channels), state_dtype=state_dtype, uint8=uint8, noise=noise_digest(noise),
    )  # fmt: skip
    folder = out or Path("out", bundle.name, f"{backend_id}-{name}-{steps}-seed{seed}")
    runtime = {"threads": threads}
    output = Output(
        folder, num_images, batch, _shard(shard), save_raw=save_raw, trajectory=trajectory, options=runtime
    )
    start = time.monotonic()
    backend = registry.open_backend(backend_id, bundle, precision, runtime)
    opened = bundle.artifact(backend.formats, precision).precision if backend.formats else None
    sampling = open_sampling(bundle, backend, settings, opened, noise, num_images)
    say(f"{bundle.name} on {backend.describe()}: {num_images} images, {name}, {steps} steps, seed {seed}")
    if not has_pixels(bundle):
        say("this bundle has no decoder, so only latents are written: export it again with dexport ... --vae")
    with progress() as report:
        num_computed = run(sampling, output, {"backend": backend_id, "precision": opened}, report)
    backend.close()
    _say_result(output, num_computed, time.monotonic() - start)
    _say_classes(bundle.manifest.classes, labels)


def _say_result(output: Output, num_computed: int, seconds: float) -> None:
    folder = output.folder
    say(f"{num_computed} images computed in {seconds:.1f} s, {output.num_images} wanted")
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


def resolve_sampler(bundle: Bundle, sampler: str | None, options: list[str]) -> tuple[str, dict[str, Any]]:
    """The sampler's name and all its options: command line, then the bundle's, then the sampler's defaults."""
    default = bundle.manifest.sampler
    name = sampler or default.name
    # Latents have no range to be clipped to.
    usual: dict[str, Any] = {"clip_x0": False} if bundle.manifest.data.space == "latent" else {}
    given = usual | (default.options if name == default.name else {})
    return name, sampler_registry.resolve(name, given | parse_assignments(options))


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """`["eta=0.5"]` -> `{"eta": "0.5"}`. Raises ConfigError where the `=` is missing."""
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set got '{assignment}', expected option=value")
        parsed[key.strip()] = value.strip()
    return parsed


def _interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"--interval got '{text}', expected two times such as 0,0.7") from None
    return low, high


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = map(int, text.split("/"))
    except ValueError:
        raise ConfigError(f"--shard got '{text}', expected I/K such as 0/4") from None
    if not 0 <= index < count:
        raise ConfigError(f"--shard got '{text}', expected I from 0 to K-1")
    return index, count


def _channels(text: str) -> int | None:
    if text in ("", "all"):
        return 0 if text else None
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise ConfigError(f"--cfg-channels got '{text}', expected all or a number such as 3")
    return int(text)


def check(path: Path, backend_id: str, precision: str | None, threads: int) -> None:
    bundle = bundles.read(path)
    bundle.check_files()
    say(f"{bundle.name}: every sha256 is right")
    for name in bundle.unlisted():
        warn(f"the manifest of '{path}' does not list '{name}': nothing opens it")
    backend = registry.open_backend(backend_id, bundle, precision, {"threads": threads})
    if not backend.formats:
        raise ConfigError(f"backend '{backend_id}' opens no artifact of a bundle, so there is nothing to check")
    artifact = bundle.artifact(backend.formats, precision)
    with progress() as report:
        results = parity.check(bundle, backend, artifact, report)
    say(parity_table(results))
    failed = [result for result in results if not result.passed]
    if failed:
        raise ParityError(
            f"{len(failed)} of {len(results)} checks on {backend.describe()} failed, the worst at relative L2 "
            f"{parity.worst(failed).relative_l2:.2g}: do not use this target"
        )
    say(f"parity with eager PyTorch holds on {backend.describe()}: {len(results)} of {len(results)} checks")


def parity_table(results: list[parity.Comparison]) -> str:
    """Aligned columns, for people."""
    width = max(len(result.name) for result in results)
    head = f"{'check':{width}}  relative L2  allowed    max abs    p99 abs   mean abs  PSNR dB"
    rows = [
        f"{r.name:{width}}  {r.relative_l2:11.2e}  {r.tolerance:7.0e}  {r.max_abs:9.2e}  {r.p99_abs:9.2e}  "
        f"{r.mean_abs:9.2e}  {r.psnr_db:7.1f}{'' if r.passed else '  FAILED'}"
        for r in results
    ]
    return "\n".join([head, *rows])


def info(path: Path) -> None:
    bundle = bundles.read(path)
    m = bundle.manifest
    c, h, w = m.data.shape
    say(f"{bundle.name}: {m.model.name}, {m.model.parameters:,} parameters, {m.model.checkpoint['weights']} weights")
    say(f"states      {c} x {h} x {w} ({m.data.space}), pixels {m.data.range[0]:g} to {m.data.range[1]:g}")
    if m.data.space == "latent":
        say(f"decoder     {'x'.join(map(str, m.decoder.shape)) if m.decoder else 'none: only latents can be drawn'}")
    say(f"process     {_pairs(m.process)}")
    say(f"prediction  {m.prediction}{f' and variance ({m.variance})' if m.variance else ''}")
    say(f"sampler     {m.sampler.name} {_pairs(m.sampler.options)}")
    say(f"classes     {_classes(m.classes)}")
    for line in _wrapped(m.classes.names if m.classes else ()):
        say(f"            {line}")
    say(f"trained on  {_trained_on(m.trained_on)}")
    say(f"checkpoint  {m.model.checkpoint['file']}, step {m.model.checkpoint['step']}")
    if note := of_initial_weights(m.model.checkpoint.get("initial_share"), m.model.checkpoint["step"]):
        say(f"average     {note}")
    say(f"made by     {m.created_by}")
    for artifact in m.artifacts:
        say(_artifact_line(bundle, artifact))


def _classes(classes: Classes | None) -> str:
    if classes is None:
        return "none"
    return f"{classes.count}, " + ("no guidance" if classes.null_label is None else f"null label {classes.null_label}")


def _wrapped(names: Sequence[str]) -> list[str]:
    """Number and name of each class, in lines."""
    return textwrap.wrap(", ".join(f"{number} {name}" for number, name in enumerate(names)), 100)


def _trained_on(images: TrainedOn | None) -> str:
    if images is None:
        return "unknown: the checkpoint does not say"
    size, colour = f"{images.image_size}x{images.image_size}", "grey" if images.channels == 1 else "colour"
    return f"{images.num_images:,} images of {images.source}, {size} {colour}, sha256 {images.fingerprint[:12]}…"


def _artifact_line(bundle: Bundle, artifact: Artifact) -> str:
    size_mb = sum(bundle.locate(entry).stat().st_size for entry in artifact.files) / 1e6
    low, high = artifact.batch
    batch = f"batch {low}" if low == high else f"batch {low} to {high}"
    worst = artifact.parity["worst"] if artifact.parity else {}
    error = worst.get("relative_l2")
    parity_text = f"{error:.1e} ({worst.get('name')})" if isinstance(error, float) else "not measured"
    return (
        f"{artifact.format:11} {artifact.precision}, {batch}, {_pairs(artifact.target)}, {size_mb:.1f} MB, "
        f"parity at export: {parity_text}"
    )


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def backends() -> None:
    for name in registry.names():
        runtime = registry.load(name)
        probe = runtime.probe()
        say(f"{name:8} {'ready' if probe.available else 'missing':8} {runtime.summary}: {probe.detail}")
        if not probe.available:
            say(f"{'':8} {'':8} {probe.install}")


def samplers() -> None:
    for name in sampler_registry.names():
        say(f"{name:14} {sampler_registry.summary(name)}")
        say(f"{'':14} {_pairs(sampler_registry.defaults(name))}")


def cache(clear: bool) -> None:
    if clear:
        say(f"{caches.clear() / 1e6:,.1f} MB freed in {caches.root()}")
        return
    held = caches.entries()
    for entry in held:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
        say(f"{entry.num_bytes / 1e6:10,.1f} MB  used {used}  {entry.what}")
    total = sum(entry.num_bytes for entry in held)
    say(
        f"{total / 1e6:10,.1f} MB in {caches.root()}; above {caches.MAX_BYTES / 1e6:,.0f} MB what was not used for "
        f"longest is removed; {caches.VARIABLE} names another folder, --clear removes all"
    )
