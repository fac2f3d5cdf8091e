"""Plans that are kept in the cache: to build one takes seconds to minutes, and it fits one GPU, driver and version."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drun import cache
from drun.backends.trt.building import PlanOptions, build
from drun.backends.trt.engine import deserialized
from drun.backends.trt.library import library, version
from drun.bundle.artifact import Artifact
from drun.bundle.onnx_files import check_external
from drun.bundle.reading import Bundle
from drun.console import progress, warn
from drun.errors import BackendUnavailable

NAME = "plan"
#: A plan holds the weights, and kernels for them.
EXPANSION, KERNEL_BYTES = 2, 64 << 20


def cached_engine(bundle: Bundle, artifact: Artifact, options: PlanOptions, setting: Mapping[str, str]) -> Any:
    """The `tensorrt.ICudaEngine` of an ONNX artifact; its plan is built first, unless the cache holds it.

    Args:
        setting: the GPU, its driver and the version, which a plan fits.

    Raises:
        BackendUnavailable: TensorRT does not read the graph, or builds no plan. BundleError: a file is damaged.
        UserError: the cache cannot be written, or has no room.
    """
    facts = {"files": [entry.sha256 for entry in artifact.files], "options": asdict(options), "setting": dict(setting)}
    key = hashlib.sha256(json.dumps(["plan", facts], sort_keys=True).encode()).hexdigest()
    with bundle.using(*artifact.files) as paths:
        check_external(paths)
        num_bytes = KERNEL_BYTES + EXPANSION * sum(path.stat().st_size for path in paths)

        def write(out: Path) -> None:
            with progress() as report:
                build(paths[0], options, out, report, timings(setting))

        def fetched() -> Any:
            return cache.fetch(key, NAME, f"TensorRT plan of {bundle.name}", num_bytes, write, opened)

        try:
            return fetched()
        except _Refused as error:
            warn(f"the plan of {artifact.id} in the cache is refused, and built anew: {error}")
            cache.forget(key)
            return fetched()


class _Refused(BackendUnavailable):
    """TensorRT does not take a plan."""


def opened(plan: Path) -> Any:
    """The `tensorrt.ICudaEngine` of a plan. Raises BackendUnavailable, with TensorRT's reason, if it is refused."""
    with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return deserialized(content)
        except BackendUnavailable as error:
            raise _Refused(str(error)) from error


def timings(setting: Mapping[str, str]) -> Path | None:
    """The file with the times of kernels on this GPU. Later builds read it, and take the same kernels, faster.

    None for tensorrt_rtx, which measures none.
    """
    if library().__name__ != "tensorrt":
        return None
    key = hashlib.sha256(json.dumps(["timings", dict(setting)], sort_keys=True).encode()).hexdigest()
    return cache.folder_of(key, f"times of kernels of {version()}") / "timings"
