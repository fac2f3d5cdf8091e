"""A stand-in for the part of coremltools that only a Mac has. It compiles by copying and computes by our executor.

It tests what we do around Core ML, and nothing of Core ML itself: no Mac has executed that yet. As `sitecustomize` it
serves child processes, too; `WRONG` and `CRASHES` in their environment name the units that are to fail.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from drun.mil.executor import Executor
from drun.mil.package import Package

#: What the Mac has, and where each operation is computed.
VERSION, UNITS = "15.5", ("cpu", "gpu", "ane")
WRONG, CRASHES = "DOUBLE_WRONG", "DOUBLE_CRASHES"
PLACES = {"gather": "cpu", "cast": "cpu"}
compilations: list[str] = []


class Device:
    """The proxy of a device."""


class Proxy:
    """Of a loaded model."""

    def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: Any) -> None:
        if units in os.environ.get(CRASHES, "").split():
            os.abort()
        if not Path(path).is_dir():
            raise RuntimeError(f"no model at {path}")
        self.units = units
        self.executor = Executor(Package(Path(path) / "package"), function or None)

    def predict(self, data: dict[str, Any], state: Any) -> dict[str, Any]:
        found = self.executor.run(data)
        if self.units in os.environ.get(WRONG, "").split():
            return {name: np.zeros_like(value) for name, value in found.items()}
        return found

    @staticmethod
    def compileModel(source: str) -> str:
        Package(Path(source))
        compilations.append(source)
        folder = Path(tempfile.mkdtemp()) / "a.mlmodelc"
        shutil.copytree(source, folder / "package")
        return str(folder)

    @staticmethod
    def get_all_compute_devices() -> list[Any]:
        return [_device(unit) for unit in UNITS]

    @staticmethod
    def get_compute_plan(path: str, units: str) -> Plan:
        return Plan(Package(Path(path) / "package"))


class Plan:
    """The Neural Engine computes everything but what `PLACES` names; the cost of each operation is the same."""

    def __init__(self, package: Package) -> None:
        functions = {}
        for name in package.program.functions:
            executor = Executor(package, name)
            operations = [SimpleNamespace(operator_name=f"ios18.{one.operator.name}") for one in executor.instructions]
            operations += [SimpleNamespace(operator_name="const")]
            functions[name] = SimpleNamespace(block=SimpleNamespace(operations=operations))
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions=functions))

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        name = operation.operator_name.rpartition(".")[2]
        return None if name == "const" else SimpleNamespace(preferred_compute_device=_device(PLACES.get(name, "ane")))

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return SimpleNamespace(weight=0.25)


def _device(unit: str) -> Any:
    from coremltools.models import compute_device

    kinds = {
        "cpu": compute_device.MLCPUComputeDevice,
        "gpu": compute_device.MLGPUComputeDevice,
        "ane": compute_device.MLNeuralEngineComputeDevice,
    }
    return kinds[unit](Device())


def install(put: Callable[[Any, str, Any], None] = setattr, put_item: Callable[..., None] | None = None) -> None:
    """Let this process think that it runs on a Mac. put: as `setattr`, or the one of pytest's monkeypatch."""
    import coremltools
    from coremltools.models import _compiled_model, compute_device, compute_plan, utils

    module = ModuleType("coremltools.libcoremlpython")
    module._MLModelProxy = Proxy  # type: ignore[attr-defined]
    (put_item or dict.__setitem__)(sys.modules, module.__name__, module)
    for place in (_compiled_model, compute_device, compute_plan, utils):
        if place in (_compiled_model, utils):
            put(place, "_macos_version", lambda: (15, 5))
        if hasattr(place, "_MLModelProxy"):
            put(place, "_MLModelProxy", Proxy)
    for kind in ("CPU", "GPU", "NeuralEngine"):
        put(compute_device, f"_ML{kind}ComputeDeviceProxy", Device)
    put(platform, "mac_ver", lambda: (VERSION, ("", "", ""), "arm64"))
    assert coremltools.__version__
