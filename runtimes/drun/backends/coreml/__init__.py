"""Core ML: packages on a Mac's processor, GPU or Neural Engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe
from drun.backends.coreml import system
from drun.backends.coreml.compiled import compiled
from drun.backends.coreml.residency import residency
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.diffusion.batched import Batched
from drun.errors import BackendUnavailable, DeviceUnavailable, reason
from drun.extras import is_installed
from drun.mil.calls import arguments
from drun.mil.package import Package
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions
from drun.version import version_of

INSTALL = "pip install 'dexport[coreml]'"
#: unit -> its name in coremltools, and in words
UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}
WORDS = {"cpu": "the CPU", "gpu": "the GPU", "ane": "the Neural Engine", "all": "all units"}
#: unit -> the units that compute the same package if it is wrong on this one, in this order
SAFER = {"all": ("gpu", "cpu"), "ane": ("gpu", "cpu"), "gpu": ("cpu",), "cpu": ()}
#: From 10 images in a call on, the GPU's fused attention is wrong (coremltools #2650), whether it was one operation or
#: several in the package.
MAX_GPU_BATCH = 8
ATTENTION = frozenset({"softmax", "scaled_dot_product_attention"})


class Runtime(Backend):
    summary = "Core ML"
    formats = ("coreml",)
    devices = tuple(UNITS)

    @staticmethod
    def probe() -> Probe:
        if not system.is_mac():
            return Probe(False, "it runs on macOS alone, and --backend mil computes the same packages anywhere")
        if not is_installed("coremltools"):
            return Probe(False, "coremltools is not installed", INSTALL)
        return Probe(True, f"coremltools {version_of('coremltools')}", INSTALL)

    @staticmethod
    def import_library() -> None:
        import coremltools  # noqa: F401

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """On the GPU and the Neural Engine, packages that were written for them alone."""
        unit = artifact.target.get("unit")
        fits = device not in ("gpu", "ane") or unit in (None, "", device)
        return (artifact.precision,) if fits else ()

    @classmethod
    def setting(cls, artifact: Artifact, options: RuntimeOptions) -> Mapping[str, str]:
        """The proof at the export is that of another executor: each system computes in its own way on each unit.

        Raises:
            BackendUnavailable: the system is too old for the package. DeviceUnavailable: it has no such unit.
        """
        unit = _unit(artifact, options)
        _check_system(artifact)
        _check_unit(unit)
        return {
            "unit": unit,
            "system": system.build(),
            "machine": system.machine(),
            "coremltools": version_of("coremltools"),
        }

    @classmethod
    def safer(cls, artifact: Artifact, options: RuntimeOptions) -> list[RuntimeOptions]:
        here = system.units()
        return [replace(options, device=unit) for unit in SAFER[_unit(artifact, options)] if unit in here]

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        self.unit, self.names = _unit(artifact, options), [tensor.name for tensor in artifact.io]
        setting = self.setting(artifact, options)
        with bundle.using(*artifact.files):
            package = Package(bundle.path / artifact.root)
            self.functions = _functions(package, artifact, self.unit)
            self.path = compiled(package, artifact, self.unit, setting)
        sizes = sorted(self.functions)
        self.batched = Batched(self.predict, bundle.manifest.data.shape, (sizes[0], sizes[-1]))
        self.models: dict[int, Any] = {}
        self._model(sizes[0])

    def _model(self, size: int) -> Any:
        """The function for a number of images. Loading one takes its time, and many walks need one alone."""
        import coremltools as ct

        if size not in self.models:
            units = getattr(ct.ComputeUnit, UNITS[self.unit])
            try:
                self.models[size] = ct.models.CompiledMLModel(str(self.path), units, self.functions[size])
            except Exception as error:
                raise BackendUnavailable(
                    f"Core ML does not load '{self.path}' on {WORDS[self.unit]}: {reason(error)}"
                ) from error
        return self.models[size]

    def describe(self) -> str:
        return f"Core ML of macOS {system.version()} on {WORDS[self.unit]}"

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        count = len(inputs[0])
        size = min(one for one in self.functions if one >= count)
        given = arguments(self.names, inputs, size)
        try:
            out = self._model(size).predict(given)[self.names[-1]]
        except Exception as error:
            raise BackendUnavailable(f"Core ML failed on a batch of {count}: {reason(error)}") from error
        return np.ascontiguousarray(out[:count], np.float32)

    def remark(self) -> str | None:
        return residency(self.path, UNITS[self.unit], self.functions[max(self.models)])

    def close(self) -> None:
        self.models.clear()


def _unit(artifact: Artifact, options: RuntimeOptions) -> str:
    """That of the options, else that which the package was written for, else all."""
    stated = artifact.target.get("unit")
    return options.device or (stated if isinstance(stated, str) and stated in UNITS else "all")


def _check_system(artifact: Artifact) -> None:
    needed = artifact.target.get("macos")
    if isinstance(needed, int) and system.major() < needed:
        raise BackendUnavailable(
            f"{artifact.id} needs macOS {needed}, this is {system.version()}: export it for an older one, by --ios"
        )


def _check_unit(unit: str) -> None:
    here = system.units()
    if unit in ("gpu", "ane") and unit not in here:
        raise DeviceUnavailable(f"--unit got {unit}, this Mac has {', '.join(sorted(here))}")


def _functions(package: Package, artifact: Artifact, unit: str) -> dict[int, str | None]:
    """images a call -> the name of the function for them; None: the only one."""
    found = package.functions_by_batch(artifact.batch)
    if unit in ("gpu", "all") and package.operations & ATTENTION:
        if min(found) > MAX_GPU_BATCH:
            raise BackendUnavailable(
                f"the GPU computes attention of {min(found)} images in a call wrongly: use --unit cpu or ane, or "
                f"export with --batch {MAX_GPU_BATCH}"
            )
        found = {size: name for size, name in found.items() if size <= MAX_GPU_BATCH}
    return {size: name if len(package.program.functions) > 1 else None for size, name in found.items()}
