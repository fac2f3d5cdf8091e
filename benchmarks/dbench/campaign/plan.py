"""The slices of `dbench gpu`, those that tell most first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch

from dbench.campaign.slices import Slice
from drun import backends
from drun.backends.ort import webgpu
from drun.errors import ConfigError, DeviceUnavailable

#: The guidance of REPA's published images: 1.8 in the model's times 0 to 0.7.
GUIDANCE = ("--cfg", "1.8", "--interval", "0,0.7")
#: Of the graphs.
PRECISIONS = ("fp32", "bf16", "fp16")
#: Time for a slice to prepare, to prove and to measure.
SHORT_S, LONG_S = 240, 540
#: A training step of 256 images of SiT-XL/2 takes 102 GB; a smaller GPU computes it in this many parts.
TRAINING_BYTES, PARTS = 110e9, 4


@dataclass(frozen=True)
class DrawnModel:
    """A recipe whose network draws, with random weights: speed does not depend on them."""

    recipe: str
    batches: tuple[int, ...]
    steps: int
    guidance: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Images in a call, of which guidance makes two for each."""
        return max(self.batches) * (2 if self.guidance else 1)


@dataclass(frozen=True)
class Scale:
    """How large everything is, and where it runs."""

    device: str
    precisions: tuple[str, ...]  # to draw in, the most important one first
    models: tuple[DrawnModel, ...]
    training: tuple[tuple[str, ...], ...]  # arguments of dbench train
    repeats: int = 3


def on_gpu() -> Scale:
    """What is measured.

    Raises:
        DeviceUnavailable: PyTorch finds no NVIDIA GPU here.
    """
    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"PyTorch {torch.__version__} finds no NVIDIA GPU here: try every slice on the processor by --rehearse"
        )
    fits = torch.cuda.get_device_properties(0).total_memory > TRAINING_BYTES
    repa = ("sit-xl-2-repa", "--batch", "256", *(() if fits else ("--set", f"train.accumulate={PARTS}")))
    return Scale(
        "cuda",
        ("bf16", "fp16", "tf32", "fp32"),
        (DrawnModel("sit-xl-2-repa", (64, 8, 1, 32), 250, GUIDANCE), DrawnModel("aerial-128", (8, 1), 1000)),
        ((*repa, "--teacher", "live"), (*repa, "--teacher", "cached"), ("aerial-128",)),
    )


def rehearsal() -> Scale:
    """The same commands on the processor with tiny networks: it shows that they run, and its figures say nothing."""
    small = ("--warmup", "2", "--steps", "1")
    return Scale(
        "cpu",
        ("bf16", "fp16", "fp32"),
        (DrawnModel("digits-sit", (2, 1), 4, GUIDANCE), DrawnModel("digits-unet", (2,), 4)),
        (
            ("digits-sit-repa", *small, "--teacher", "live"),
            ("digits-sit-repa", *small, "--teacher", "cached"),
            ("digits-unet", *small),
        ),
        repeats=2,
    )


def plan(scale: Scale, out: Path) -> list[Slice]:
    """All slices, in the order in which they run. out: the folder of the results."""
    results = ("--out", str(out))
    slices = [Slice("kernel", ("dbench", "kernel", *results), SHORT_S)]
    for model in scale.models:
        slices += _of_model(model, scale, out)
    for arguments in scale.training:
        name = "-".join(["train", arguments[0], *(word for word in arguments if word in ("live", "cached"))])
        device = ("--device", scale.device)
        slices.append(Slice(name, ("dbench", "train", *arguments, *device, *results), LONG_S))
    return slices


def chosen(slices: Sequence[Slice], patterns: Sequence[str]) -> list[Slice]:
    """The slices whose names match a pattern, such as throughput-*, and those that they need; all without patterns.

    Raises:
        ConfigError: a pattern that no name matches.
    """
    if not patterns:
        return [*slices]
    for pattern in patterns:
        if not any(fnmatch(one.name, pattern) for one in slices):
            raise ConfigError(f"--only got '{pattern}', expected one of {', '.join(one.name for one in slices)}")
    wanted = {one.name for one in slices if any(fnmatch(one.name, pattern) for pattern in patterns)}
    for one in reversed(slices):
        if one.name in wanted:
            wanted |= {*one.needs}
    return [one for one in slices if one.name in wanted]


def _of_model(model: DrawnModel, scale: Scale, out: Path) -> Iterator[Slice]:
    """Weights, targets, their parity on every device that is here, and images a second."""
    weights, bundle, results = _weights(model, out), _bundle(model, out), ("--out", str(out))
    yield Slice(f"weights-{model.recipe}", ("dbench.campaign.weights", model.recipe, weights), SHORT_S)
    first, *others = _exports(model, scale, out)
    yield from (first, *others)
    needed = (first.name,)  # the others may lack what is not installed
    for device, why_not in ((scale.device, None), ("webgpu", webgpu.why_not())):
        parity = ("dbench", "parity", bundle, "--device", device, *results)
        yield Slice(f"parity-{model.recipe}-{device}", parity, SHORT_S, needed, why_not)
    whole = ("--steps", str(model.steps), *model.guidance, "--repeats", str(scale.repeats), *results)
    for precision in scale.precisions:
        for batch in model.batches:
            drawn = ("--device", scale.device, "--precision", precision, "--batch", str(batch))
            draw = ("dbench", "throughput", weights, "--bundle", bundle, *drawn, *whole)
            yield Slice(f"throughput-{model.recipe}-{precision}-batch-{batch}", draw, LONG_S, needed)


def _exports(model: DrawnModel, scale: Scale, out: Path) -> Iterator[Slice]:
    """Those of checkpoints, then the plans, which are made of them."""
    needed, weights, bundle = (f"weights-{model.recipe}",), _weights(model, out), _bundle(model, out)
    options = ("-o", bundle, "--batch", f"1..{model.most}", "--quick")
    for precision in PRECISIONS:
        onnx = ("dexport", "onnx", weights, "--precision", precision, *options)
        yield Slice(f"export-{model.recipe}-onnx-{precision}", onnx, LONG_S, needed)
    yield Slice(f"export-{model.recipe}-pt2", ("dexport", "pt2", weights, *options), LONG_S, needed)
    if scale.device != "cuda":
        return
    probe = backends.load("trt").probe()
    for precision in PRECISIONS:
        source, why_not = f"export-{model.recipe}-onnx-{precision}", None if probe.available else probe.why_not
        build = ("dexport", "trt", bundle, "--precision", precision)
        yield Slice(f"export-{model.recipe}-trt-{precision}", build, LONG_S, (source,), why_not)


def _weights(model: DrawnModel, out: Path) -> str:
    return str(out / "work" / "weights" / model.recipe)


def _bundle(model: DrawnModel, out: Path) -> str:
    return str(out / "work" / model.recipe)
