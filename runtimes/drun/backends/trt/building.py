"""Builds a plan of an ONNX graph: TensorRT chooses and times the kernels, which takes seconds to minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drun.backends.trt.library import errors, library, logger
from drun.backends.trt.profiles import Profile
from drun.bundle.artifact import Tensor
from drun.console import Report
from drun.console.interrupts import postponed
from drun.errors import BackendUnavailable
from drun.files import atomic

#: tensorrt_rtx builds for these only where there is a driver.
TURING = "SM75"


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is built for."""

    inputs: tuple[Tensor, ...]  # batches are "N" in the shapes
    profiles: tuple[Profile, ...]
    is_tf32: bool = False  # whether products of float32 may round their factors to 11 bits
    #: such as SM89, of tensorrt_rtx: GPUs of other machines; empty: this machine's
    capabilities: tuple[str, ...] = ()


def build(graph: Path, options: PlanOptions, out: Path, report: Report, timings: Path | None = None) -> None:
    """Build a plan and write it to `out`. An interrupt stops it between two steps.

    Args:
        graph: an ONNX file, its weights beside it.
        timings: a file with the times of kernels that were measured before; it is read, and written with the new ones.

    Raises:
        BackendUnavailable: TensorRT does not read the graph, or builds no plan.
    """
    trt = library()
    errors()  # of earlier work
    builder = trt.Builder(logger())
    network = builder.create_network(0)
    _parse(graph, network)
    config = builder.create_builder_config()
    (config.set_flag if options.is_tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    for profile in options.profiles:
        _add(profile, options.inputs, builder, config)
    _choose_gpus(config, options.capabilities)
    _load_timings(config, timings)
    with postponed() as is_interrupted:
        config.progress_monitor = _monitor(report, is_interrupted)
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendUnavailable(f"TensorRT builds no plan of '{graph}': {errors()}")
    out.write_bytes(plan)
    _save_timings(config, timings)


def _parse(graph: Path, network: Any) -> None:
    parser = library().OnnxParser(network, logger())
    if parser.parse_from_file(str(graph)):
        return
    found = [_parser_error(parser.get_error(number)) for number in range(parser.num_errors)]
    raise BackendUnavailable(f"TensorRT does not read '{graph}': {'; '.join(found) or errors()}")


def _parser_error(error: Any) -> str:
    return f"{error.node_operator()} '{error.node_name()}': {error.desc()}"


def _add(profile: Profile, inputs: Sequence[Tensor], builder: Any, config: Any) -> None:
    own = builder.create_optimization_profile()
    for tensor in inputs:
        own.set_shape(tensor.name, *((size, *tensor.shape[1:]) for size in (profile.low, profile.usual, profile.high)))
    if config.add_optimization_profile(own) < 0:
        raise BackendUnavailable(f"TensorRT refuses calls of {profile} images: {errors()}")


def _choose_gpus(config: Any, capabilities: Sequence[str]) -> None:
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for place, capability in enumerate(capabilities):
            config.set_compute_capability(library().ComputeCapability.__members__[capability], place)


def capabilities() -> tuple[str, ...]:
    """The GPUs that this library can build for without having one; none for the full TensorRT."""
    known = getattr(library(), "ComputeCapability", None)
    return () if known is None else tuple(one for one in known.__members__ if one.startswith("SM") and one != TURING)


def _load_timings(config: Any, timings: Path | None) -> None:
    if timings is not None:
        known = timings.read_bytes() if timings.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)  # of another version, or damaged


def _save_timings(config: Any, timings: Path | None) -> None:
    if timings is not None and (measured := config.get_timing_cache()) is not None:
        with suppress(OSError), atomic(timings) as unfinished:  # a loss of time, not of a plan
            unfinished.write_bytes(measured.serialize())


def _monitor(report: Report, is_interrupted: Callable[[], bool]) -> Any:
    """Shows the outermost phases, and stops the build at an interrupt."""
    trt = library()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.sizes: dict[str, int] = {}  # of the outermost phases, in steps

        def phase_start(self, name: str, parent: str | None, num_steps: int) -> None:
            if parent is None:
                self.sizes[name] = num_steps

        def step_complete(self, name: str, step: int) -> bool:
            self.show(name, step + 1)
            return not is_interrupted()

        def phase_finish(self, name: str) -> None:
            self.show(name, self.sizes.get(name, 0))

        def show(self, name: str, done: int) -> None:
            if name in self.sizes:
                report(f"TensorRT: {name}", min(done, self.sizes[name]), self.sizes[name])

    return Monitor()
