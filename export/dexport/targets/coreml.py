"""Export the denoiser to a Core ML package for Apple's GPU or Neural Engine, prove it, and put it into a bundle."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dexport.targets import Part
from drun.bundle.artifact import Artifact, FileEntry
from drun.console import say, warn
from drun.errors import ConfigError
from drun.files import sha256
from drun.mil.executor import Executor
from drun.mil.package import Package
from drun.version import version_of

if TYPE_CHECKING:
    from torch import nn

#: precision of the graph -> the backend that proves it
PROVERS = dict.fromkeys(("fp16", "fp32", "palette8", "palette6", "palette4", "weights8", "weights4"), "mil")
UNITS, SPLIT_UNITS = ("gpu", "ane"), ("ane",)
#: Number of iOS -> smallest and largest size of a call, for an image and for a guided one: shapes in a package are
#: fixed, and before iOS 18 it has one function. The Mac's numbers are 3 less, and read the same.
SYSTEMS = {18: (1, 2), 17: (1, 1)}
DECODER_BATCH = (1, 1)
#: Least PSNR of a call in fp16, dB; for conversions of Stable Diffusion Apple asks for 35.
HALF_DB = 45.0
#: The first iOS that reads several functions, and palettes and scales of groups.
FUNCTIONS_SINCE = 18


def check(precision: str, system: int, batch: tuple[int, int] | None) -> None:
    """Raises ConfigError for what an older system does not read."""
    if system >= FUNCTIONS_SINCE:
        return
    newer = f"or take --ios {FUNCTIONS_SINCE}"
    if batch is not None and batch[0] != batch[1]:
        got = f"{batch[0]}..{batch[1]}"
        raise ConfigError(f"--batch got {got}, for iOS {system} calls have one size: type --batch {batch[1]}, {newer}")
    if precision not in ("fp16", "fp32"):
        raise ConfigError(f"--precision got {precision}, for iOS {system} weights stay whole: type fp16, {newer}")


def export(part: Part, folder: Path) -> Artifact:
    """Write `<stem>.mlpackage`, with a function for each end of the batch.

    Raises:
        ExportError: the network has an operator that the converter reads wrongly, or is not written for the unit.
        BackendUnavailable: coremltools cannot be loaded.
    """
    from dexport.apple.conversion import convert, uncollected
    from dexport.apple.frontend import exported
    from dexport.apple.functions import join
    from dexport.tracing import example_inputs

    network = _written_for(part)
    path = folder / f"{part.stem}.mlpackage"
    names = [tensor.name for tensor in part.inputs]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = {}
        for size in dict.fromkeys(part.batch):
            packages[f"batch_{size}"] = own = Path(scratch, f"{size}.mlpackage")
            with uncollected():
                program = exported(network, example_inputs(part.inputs, (size, size)))
                convert(program, names, part.output.name, part.precision, part.system, own, part.unit == "ane")
                del program
        join(packages, part.metadata, path)
    if part.unit == "ane":
        _say_rules(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return Artifact(
        format="coreml",
        precision=part.precision,
        io=part.io,
        files=tuple(FileEntry(file.relative_to(folder).as_posix(), sha256(file)) for file in files),
        batch=part.batch,
        target={"ios": part.system, "macos": part.system - 3, "unit": part.unit},
        producers={name: version_of(name) for name in ("torch", "coremltools")},
        tolerance=replace(part.tolerance, least_db=HALF_DB) if part.precision == "fp16" else part.tolerance,
        variant=part.unit,
        root=path.name,
    )


def _say_rules(path: Path) -> None:
    """What of a package breaks Apple's rules for the Neural Engine."""
    from dexport.apple.rules import broken, padded, summary

    package = Package(path)
    executor = Executor(package)
    for line in (found := summary(broken(executor))):
        warn(f"not for the Neural Engine: {line}")
    if not found:
        say("no operation breaks one of Apple's rules for the Neural Engine")
    if axes := padded(executor):
        say(f"the Neural Engine fills last axes up to 32 elements: {'; '.join(map(str, axes))}")


def _written_for(part: Part) -> nn.Module:
    """The network as the unit computes it best; conditioning and decoders are written as for the GPU."""
    from dexport.deploy.ane import for_neural_engine
    from dexport.deploy.split import DenoiserStage
    from dexport.deploy.transformer import fuse_attention

    if part.unit == "ane":
        assert isinstance(part.deployable, DenoiserStage)
        return for_neural_engine(part.deployable)
    return fuse_attention(part.deployable)
