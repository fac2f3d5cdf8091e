"""Opens everything that can draw, and lets it draw batch after batch in turns."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dbench.core import machine, networks, subject
from dbench.core.flops import forward_flops
from dbench.core.origin import denoiser_of
from dbench.core.random_weights import STEP
from dbench.core.record import Result, this_command
from dbench.suites.throughput import loops
from dbench.suites.throughput.papers import enough_memory
from dbench.suites.throughput.race import Race
from dbench.suites.throughput.settings import ThroughputSettings
from dbench.suites.throughput.ways import PaperWays, check_precisions, of_bundle
from drun.bundle import reading as bundles
from drun.bundle.card import Card
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import SamplingSettings
from dtrain import device as devices
from dtrain.published import Denoiser

#: Above its usual limit of 8 PyTorch computes a further batch without its compiler, and says nothing.
MOST_COMPILED = 100


def measure(settings: ThroughputSettings, report: Report) -> Result:
    """Draw batches in turns: the papers' loop around PyTorch, eager and compiled, and `drun` on the bundle's targets.

    Raises:
        ConfigError: neither a checkpoint nor a recipe, a bundle of something else, a model that the papers' loops do
        not take, or a precision that the device lacks. UserError: the device's memory does not suffice.
    """
    start = machine.usage()
    device = devices.choose(settings.device, "fp32", "off").device
    check_precisions(settings.precisions, device)
    with tempfile.TemporaryDirectory(prefix="dbench-throughput-", ignore_cleanup_errors=True) as scratch:
        origin = networks.find(settings.model, settings.assignments, Path(scratch))
        bundle = None if settings.bundle is None else bundles.open_bundle(settings.bundle)
        denoiser = origin.load() if bundle is None else denoiser_of(bundle, origin.checkpoint)
        drawing = _drawing(denoiser.card, settings)
        with ExitStack() as stack, torch._dynamo.config.patch(recompile_limit=MOST_COMPILED), enough_memory(device):
            papers = PaperWays(denoiser, device)
            reference, flops = papers.reference(), _flops(denoiser)
            Sampling(denoiser.card, reference, drawing)  # raises what nobody can draw
            ways = papers.all(settings.precisions)
            ways += [] if bundle is None else of_bundle(stack, bundle, device, settings)
            race = Race(denoiser.card, drawing, reference, ways, device, flops, settings.repeats, report)
            rows = [row for batch in settings.batches for row in race.rows(batch)]
    shown = {key: value for key, value in asdict(settings).items() if key not in ("model", "bundle")}
    resolved = shown | {
        "device": device.type,
        "sampler": drawing.sampler,
        "runs_on": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ways": tuple(way.name for way in ways),
    }
    here = machine.fingerprint(torch.get_num_threads() if device.type == "cpu" else None, since=start)
    is_random = origin.is_random or denoiser.step == STEP
    return Result(tuple(rows), _subject(settings, denoiser, bundle, is_random), resolved, here, this_command())


def _subject(
    settings: ThroughputSettings, denoiser: Denoiser, bundle: Bundle | None, is_random: bool
) -> dict[str, Any]:
    weights = {"weights": "random" if is_random else denoiser.weights}
    if bundle is not None:
        return subject.of_bundle(bundle) | weights
    name = Path(settings.model).stem
    return {"name": name, "checkpoint_sha256": denoiser.sha256, "parameters": denoiser.num_parameters} | weights


def _drawing(card: Card, settings: ThroughputSettings) -> SamplingSettings:
    """What every way draws: by the sampler that computes what the papers' loop does."""
    loop = loops.loop_of(card)
    sampler = resolve_sampler(card, loop.sampler, loop.options)
    return SamplingSettings(*sampler, settings.steps, cfg=settings.cfg, interval=settings.interval)


def _flops(denoiser: Denoiser) -> int:
    """The operations of one network call on one image."""
    x, labels = torch.zeros(1, *denoiser.card.data.shape), torch.zeros(1, dtype=torch.int64)
    inputs = [x, torch.zeros(1), *([labels] if denoiser.card.classes else [])]
    return forward_flops(denoiser.network, *inputs)
