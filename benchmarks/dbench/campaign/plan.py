"""The slices of `dbench gpu`, those that tell most first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import torch

from dbench.campaign.slices import Slice
from drun import backends
from drun.backends.ort import webgpu
from drun.errors import ConfigError

#: The guidance of REPA's published images: 1.8 in the model's times 0 to 0.7.
GUIDANCE = ("--cfg", "1.8", "--interval", "0,0.7")
#: The precisions of the graphs.
GRAPHS = ("fp32", "bf16", "fp16")
#: How long a slice may take.
SHORT_S, LONG_S = 240, 540
#: A training step of 256 images of SiT-XL/2 took 102 GB (benchmarks/results/h200); a smaller GPU computes it in parts.
TRAINING_BYTES, PARTS = 110e9, 4


@dataclass(frozen=True)
class Draw:
    """Batches that are drawn in one slice: fewer steps where the whole way would take longer than a slice."""

    precision: str
    batch: int
    steps: int
    repeats: int = 3


@dataclass(frozen=True)
class DrawnModel:
    """A recipe whose network draws, with random weights: speed does not depend on them."""

    recipe: str
    draws: tuple[Draw, ...]
    guidance: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Images in a call, of which guidance makes two for each."""
        return max(draw.batch for draw in self.draws) * (2 if self.guidance else 1)


@dataclass(frozen=True)
class Scale:
    """How large everything is, and where it runs."""

    device: str
    models: tuple[DrawnModel, ...]
    training: tuple[tuple[str, ...], ...]  # arguments of dbench train
    why_not: str | None = None  # why this machine lacks the device


def on_gpu() -> Scale:
    """What is measured. Without a GPU the bundles can be made, and the rest is left out."""
    is_here = torch.cuda.is_available()
    fits = is_here and torch.cuda.get_device_properties(0).total_memory > TRAINING_BYTES
    repa = ("sit-xl-2-repa", "--batch", "256", *(() if fits else ("--set", f"train.accumulate={PARTS}")))
    sit = (
        *(Draw("bf16", 64, 250, 1), Draw("bf16", 8, 250), Draw("bf16", 1, 250), Draw("bf16", 32, 250, 1)),
        *(Draw("fp16", 64, 100, 1), Draw("fp16", 8, 250), Draw("fp16", 1, 250), Draw("fp16", 32, 100, 1)),
        *(Draw("tf32", 8, 100), Draw("tf32", 1, 250), Draw("tf32", 32, 50, 1), Draw("tf32", 64, 25, 1)),
        *(Draw("fp32", 1, 100), Draw("fp32", 8, 25), Draw("fp32", 32, 12, 1), Draw("fp32", 64, 12, 1)),
    )
    unet = (Draw("bf16", 8, 1000, 1), Draw("bf16", 1, 1000, 1), Draw("tf32", 8, 250), Draw("fp32", 8, 100))
    return Scale(
        "cuda",
        (DrawnModel("sit-xl-2-repa", sit, GUIDANCE), DrawnModel("aerial-128", unet)),
        ((*repa, "--teacher", "live"), (*repa, "--teacher", "cached"), ("aerial-128",)),
        None if is_here else f"PyTorch {torch.__version__} finds no NVIDIA GPU here",
    )


def rehearsal() -> Scale:
    """The same commands on the processor with tiny networks: it shows that they run, and its figures say nothing."""
    small = ("--warmup", "2", "--steps", "1")
    teachers = (("digits-sit-repa", *small, "--teacher", kind) for kind in ("live", "cached"))
    sit = (Draw("bf16", 2, 4, 2), Draw("bf16", 1, 4, 1), Draw("fp16", 1, 4, 1), Draw("fp32", 2, 4, 2))
    unet = (Draw("bf16", 2, 4, 1), Draw("fp32", 2, 4, 1))
    models = (DrawnModel("digits-sit", sit, GUIDANCE), DrawnModel("digits-unet", unet))
    return Scale("cpu", models, (*teachers, ("digits-unet", *small)))


def plan(scale: Scale, out: Path) -> list[Slice]:
    """All slices, in the order in which they run. out: the folder of the results.

    The first precision of the first model comes with its graph and plan alone, then training; the rest follows.
    """
    first, *others = scale.models
    begun = first.draws[0].precision
    slices = [Slice("kernel", ("dbench", "kernel", "--out", str(out)), SHORT_S, why_not=scale.why_not)]
    slices += [*_made(first, scale, out, begun), *_drawn(first, scale, out, begun)]
    slices += [_trained(arguments, scale, out) for arguments in scale.training]
    for precision in dict.fromkeys(draw.precision for draw in first.draws if draw.precision != begun):
        slices += [*_made(first, scale, out, precision), *_drawn(first, scale, out, precision)]
    slices += _proven(first, scale, out)
    for model in others:
        for precision in dict.fromkeys(draw.precision for draw in model.draws):
            slices += [*_made(model, scale, out, precision), *_drawn(model, scale, out, precision)]
        slices += _proven(model, scale, out)
    once = {one.name: one for one in slices}
    return [replace(one, uses=tuple(name for name in dict.fromkeys(one.uses) if name in once)) for one in once.values()]


def chosen(slices: Sequence[Slice], patterns: Sequence[str]) -> list[Slice]:
    """The slices whose names match a pattern, such as throughput-*, and those whose files they take; all without
    patterns.

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
            wanted |= {*one.needs, *one.uses}
    return [one for one in slices if one.name in wanted]


# ---- names ----------------------------------------------------------------------------------------------


def _weights(model: DrawnModel, out: Path) -> str:
    return str(out / "work" / "weights" / model.recipe)


def _bundle(model: DrawnModel, out: Path) -> str:
    return str(out / "work" / model.recipe)


def _name_of_weights(model: DrawnModel) -> str:
    return f"weights-{model.recipe}"


def _name_of_graph(model: DrawnModel, precision: str) -> str:
    """tf32 is an arithmetic of the graph in fp32."""
    return f"export-{model.recipe}-onnx-{'fp32' if precision == 'tf32' else precision}"


def _name_of_pt2(model: DrawnModel) -> str:
    return f"export-{model.recipe}-pt2"


def _name_of_plan(model: DrawnModel, precision: str) -> str:
    return f"plan-{model.recipe}-{precision}"


# ---- slices ---------------------------------------------------------------------------------------------


def _made(model: DrawnModel, scale: Scale, out: Path, precision: str) -> Iterator[Slice]:
    """What is drawn with in a precision: weights, the graph, the program, and TensorRT's plan of the graph.

    The graph in fp32 is the one that starts the bundle.
    """
    weights, bundle = _weights(model, out), _bundle(model, out)
    needs = (_name_of_weights(model),)
    yield Slice(needs[0], ("dbench", "weights", model.recipe, weights), SHORT_S, on_processor=True)
    options = ("-o", bundle, "--batch", f"1..{model.most}", "--quick")
    for one in dict.fromkeys(("fp32", precision)):
        if one in GRAPHS:
            onnx = ("dexport", "onnx", weights, "--precision", one, *options)
            yield Slice(_name_of_graph(model, one), onnx, LONG_S, needs, on_processor=True)
    pt2 = ("dexport", "pt2", weights, *options)
    yield Slice(_name_of_pt2(model), pt2, LONG_S, needs, on_processor=True)
    if scale.device == "cuda":
        # It builds the plan, keeps it in the user's cache, and proves it.
        build = ("drun", "check", bundle, "--backend", "trt", "--device", "cuda", "--precision", precision)
        probe = backends.load("trt").probe()
        why_not = scale.why_not or (None if probe.available else probe.why_not)
        graph = (_name_of_graph(model, precision),)
        yield Slice(_name_of_plan(model, precision), build, LONG_S, graph, why_not=why_not)


def _drawn(model: DrawnModel, scale: Scale, out: Path, precision: str) -> Iterator[Slice]:
    """Images a second in a precision."""
    fp32 = _name_of_graph(model, "fp32")
    uses = (_name_of_graph(model, precision), _name_of_pt2(model), _name_of_plan(model, precision))
    for draw in model.draws:
        if draw.precision == precision:
            command = (
                *("dbench", "throughput", _weights(model, out), "--bundle", _bundle(model, out)),
                *("--device", scale.device, "--precision", precision, "--batch", str(draw.batch)),
                *("--steps", str(draw.steps), *model.guidance, "--repeats", str(draw.repeats), "--out", str(out)),
            )
            name = f"throughput-{model.recipe}-{precision}-batch-{draw.batch}"
            yield Slice(name, command, LONG_S, (fp32,), uses, why_not=scale.why_not)


def _proven(model: DrawnModel, scale: Scale, out: Path) -> Iterator[Slice]:
    """The parity of all that was made, on the device and on WebGPU."""
    needs = (_name_of_graph(model, "fp32"),)
    precisions = dict.fromkeys(draw.precision for draw in model.draws)
    uses = (*(_name_of_graph(model, one) for one in precisions), _name_of_pt2(model))
    plans = tuple(_name_of_plan(model, one) for one in precisions)
    for device, why_not in ((scale.device, scale.why_not), ("webgpu", _why_no_webgpu())):
        command = ("dbench", "parity", _bundle(model, out), "--device", device, "--out", str(out))
        taken = (*uses, *plans) if device == "cuda" else uses
        yield Slice(f"parity-{model.recipe}-{device}", command, LONG_S, needs, taken, why_not=why_not)


def _why_no_webgpu() -> str | None:
    probe = backends.load("ort").probe()
    return webgpu.why_not() if probe.available else probe.why_not


def _trained(arguments: tuple[str, ...], scale: Scale, out: Path) -> Slice:
    kinds = (word for word in arguments if word in ("live", "cached"))
    command = ("dbench", "train", *arguments, "--device", scale.device, "--out", str(out))
    return Slice("-".join(["train", arguments[0], *kinds]), command, LONG_S, why_not=scale.why_not)
