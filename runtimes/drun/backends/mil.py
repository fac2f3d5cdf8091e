"""The reference executor: Core ML packages, computed in numpy on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe, check_signature
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.errors import BundleError
from drun.mil.calls import arguments
from drun.mil.executor import Executor
from drun.mil.health import Health
from drun.mil.package import Package
from drun.mil.types import TensorType
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions
from drun.version import VERSION

#: type in a program -> dtype of an input or output
DTYPES = {"fp32": "float32", "int32": "int64"}


class Runtime(Backend):
    summary = "reference executor for Core ML packages"
    formats = ("coreml",)
    is_reference = True

    @staticmethod
    def probe() -> Probe:
        return Probe(True, f"drun {VERSION}")

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        return (artifact.precision,)

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        self.names = [tensor.name for tensor in artifact.io]
        self.health = Health()
        with bundle.using(*artifact.files) as paths:
            package = Package(bundle.path / artifact.root)
            self.executors = _executors(package, artifact, paths)
        is_alone = len(self.executors) == 1
        for size, executor in self.executors.items():
            check_signature(artifact, package.folder, _signature(executor, size, is_alone))

    def describe(self) -> str:
        return "reference executor on CPU"

    def computes(self) -> str:
        return "" if self.arithmetic == "fp32" else "in fp16, each result rounded as it is declared"

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        count = len(inputs[0])
        size = min(one for one in self.executors if one >= count)
        executor = self.executors[size]
        return executor.run(arguments(self.names, inputs, size), self.health)[self.names[-1]][:count]

    def remark(self) -> str | None:
        return self.health.describe()

    def findings(self) -> dict[str, Any]:
        return self.health.document()

    def close(self) -> None:
        del self.executors


def _executors(package: Package, artifact: Artifact, listed: list[Path]) -> dict[int, Executor]:
    """images a call -> the function for them. Raises BundleError if the package reads a file that is not listed."""
    mode = "ideal" if artifact.precision == "fp32" else "declared"
    functions = package.functions_by_batch(artifact.batch)
    found = {size: Executor(package, name, mode) for size, name in functions.items()}
    if unlisted := [path for path in package.files if path not in listed]:
        raise BundleError(f"'{unlisted[0]}' is not listed in the bundle's manifest: export it again")
    return found


def _signature(executor: Executor, size: int, is_alone: bool) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """As the manifest says it: a batch that is not the only one is open."""

    def port(type: TensorType) -> tuple[str, tuple[int | None, ...]]:
        sides: list[int | None] = [*type.shape]
        if not is_alone and sides and sides[0] == size:
            sides[0] = None
        return DTYPES.get(type.dtype, type.dtype), tuple(sides)

    return {name: port(type) for name, type in (executor.inputs | executor.outputs).items()}
