"""`drun info`, `drun backends` and `drun samplers` list what there is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drun import backends as registry
from drun.bundle.artifact import Artifact, Loss, Parity
from drun.bundle.average import of_initial_weights
from drun.bundle.card import Classes
from drun.bundle.manifest import TrainedOn
from drun.bundle.reading import Bundle, open_bundle
from drun.console import answer, say
from drun.diffusion import samplers as sampler_registry
from drun.plain import plain


def info(path: Path | None) -> None:
    bundle = open_bundle(path)
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
        _say_artifact(bundle, artifact, "denoiser")
    decoders = m.decoder.artifacts if m.decoder else ()
    for artifact in decoders:
        _say_artifact(bundle, artifact, "decoder")
    sizes = {artifact.id: _num_bytes(bundle, artifact) for artifact in m.artifacts}
    decoder_sizes = {artifact.id: _num_bytes(bundle, artifact) for artifact in decoders}
    answer(
        {"name": bundle.name, "path": bundle.path, "manifest": m, "artifact_bytes": sizes}
        | {"decoder_bytes": decoder_sizes}
    )


def _classes(classes: Classes | None) -> str:
    if classes is None:
        return "none"
    return f"{classes.count}, " + ("no guidance" if classes.null_label is None else f"null label {classes.null_label}")


def _wrapped(names: Sequence[str]) -> list[str]:
    """The number and name of every class, wrapped into lines."""
    return textwrap.wrap(", ".join(f"{number} {name}" for number, name in enumerate(names)), 100)


def _trained_on(images: TrainedOn | None) -> str:
    if images is None:
        return "unknown: the checkpoint does not say"
    size, colour = f"{images.image_size}x{images.image_size}", "grey" if images.channels == 1 else "colour"
    return f"{images.num_images:,} images of {images.source}, {size} {colour}, sha256 {images.fingerprint[:12]}…"


def _num_bytes(bundle: Bundle, artifact: Artifact) -> int:
    return sum(bundle.locate(entry).stat().st_size for entry in artifact.files)


def _say_artifact(bundle: Bundle, artifact: Artifact, network: str) -> None:
    size_mb = _num_bytes(bundle, artifact) / 1e6
    low, high = artifact.batch
    batch = f"batch {low}" if low == high else f"batch {low} to {high}"
    say(f"{artifact.id}: {network}, {batch}, {size_mb:.1f} MB, {_pairs(artifact.target)}")
    say(f"            parity at export: {_proof(artifact.parity)}")


def _proof(parity: Parity | None) -> str:
    worst = parity["worst"] if parity else {}
    error = worst.get("relative_l2")
    if parity is None or not isinstance(error, float):
        return "not proven where it was made"
    quick = f", quick: {parity['checks']} checks only" if parity.get("quick") else ""
    drift = "" if parity["passed"] else ", more than is allowed: written by --allow-drift"
    loss = f", {loss_text(parity['loss'])}" if "loss" in parity else ""
    return f"{error:.1e} ({worst.get('name')}){quick}{drift}{loss}"


def loss_text(loss: Loss) -> str:
    """The loss of a quantised graph in words."""
    drawn = f"{loss['images']} images, {loss['steps']} steps of {loss['sampler']}"
    away = "equal to" if loss["psnr_db"] is None else f"{loss['psnr_db']:.1f} dB from"
    worst = loss.get("worst_db")
    farthest = "" if worst is None else f", the farthest at {worst:.1f} dB"
    return f"final images {away} those of fp32 ({drawn}{farthest})"


def _pairs(values: dict[str, Any]) -> str:
    words = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    return " ".join(f"{key}={value}" for key, value in words.items())


def backends() -> None:
    found = {name: registry.load(name) for name in registry.names()}
    probes = {name: runtime.probe() for name, runtime in found.items()}
    for name, runtime in found.items():
        probe = probes[name]
        say(f"{name:8} {'ready' if probe.available else 'missing':8} {runtime.summary}: {probe.detail}")
        if probe.install and not probe.available:
            say(f"{'':8} {'':8} {probe.install}")
    answer({name: {"summary": found[name].summary, **plain(probe)} for name, probe in probes.items()})


def samplers() -> None:
    for name in sampler_registry.names():
        say(f"{name:14} {sampler_registry.summary(name)}")
        say(f"{'':14} {_pairs(sampler_registry.defaults(name))}")
    summary, defaults = sampler_registry.summary, sampler_registry.defaults
    answer({name: {"summary": summary(name), "options": defaults(name)} for name in sampler_registry.names()})
