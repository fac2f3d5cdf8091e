"""What we do around Core ML, on a stand-in for a Mac (`macos.py`). No Mac has executed it yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import macos
import numpy as np
import pytest
from coreml_bundles import add_package

from drun.backends import coreml
from drun.backends.coreml import Runtime, system
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BackendUnavailable, ConfigError, DeviceUnavailable
from drun.mil.executor import Executor
from drun.mil.package import Package
from drun.run import parity
from drun.run.opening import candidates, choose, open_candidate
from drun.settings import RuntimeOptions


def opened(bundle: Bundle, unit: str | None = None) -> Runtime:
    return Runtime(bundle, bundle.manifest.artifacts[0], "fp32", RuntimeOptions(device=unit))


def targeted(bundle: Bundle, **target: Any) -> Bundle:
    (artifact,) = bundle.manifest.artifacts
    changed = replace(artifact, target=artifact.target | target)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=(changed,)))


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize("size", [1, 2])
def test_it_computes_what_the_closed_form_says(
    bundle: Bundle, size: int, exact_noise: Callable[..., np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((size, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, size)
    runtime = opened(bundle)
    found = runtime.predict(x, np.full(size, 7, np.float32), y)
    np.testing.assert_allclose(found, exact_noise(x, 7, y), rtol=1e-4, atol=1e-5)
    assert [*runtime.models] == sorted({1, size})  # a function that nobody calls is not loaded


@pytest.mark.usefixtures("mac")
def test_it_passes_the_golden_file(bundle: Bundle) -> None:
    with open_candidate(bundle, choose(bundle, "coreml")) as found:
        results = parity.check(bundle, found, silent)
        assert found.describe() == "Core ML of macOS 15.5 on the GPU"
    assert results
    assert all(result.passed for result in results)


@pytest.mark.usefixtures("mac")
def test_a_package_is_compiled_once_for_each_unit(bundle: Bundle) -> None:
    paths = {unit: opened(bundle, unit).path for unit in ("cpu", "gpu", "cpu", "all")}
    assert len({*paths.values()}) == len(macos.compilations) == 3


@pytest.mark.usefixtures("mac")
def test_another_build_of_the_system_compiles_anew(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(bundle, "cpu")
    monkeypatch.setattr(system, "build", lambda: "25A1")
    opened(bundle, "cpu")
    assert len(macos.compilations) == 2


@pytest.mark.usefixtures("mac")
def test_what_it_says_of_its_units(bundle: Bundle) -> None:
    runtime = opened(bundle, "cpu")
    said = runtime.remark()
    operations = Executor(Package(bundle.path / bundle.manifest.artifacts[0].root)).instructions
    of_cpu = sum(one.operator.name in macos.PLACES for one in operations) / len(operations)
    shares = [
        f"{100 * share:.0f} % on the {unit} ({100 * share:.0f} % of the cost)"
        for unit, share in (("Neural Engine", 1 - of_cpu), ("CPU", of_cpu))
    ]
    assert said.startswith(f"of {len(operations)} operations {', '.join(shares)}")
    assert said.endswith("; elsewhere are cast, gather") or said.endswith("; elsewhere are gather, cast")


@pytest.mark.usefixtures("mac")
def test_units_and_packages(bundle: Bundle) -> None:
    """A package for the GPU is not for the Neural Engine; the processor takes any."""
    ids = {unit: [one.artifact.id for one in candidates(bundle, ("coreml",), unit)] for unit in ("cpu", "gpu", "all")}  # type: ignore[union-attr]
    assert {*map(tuple, ids.values())} == {("coreml-fp32-gpu",)}
    with pytest.raises(BackendUnavailable, match=r"can compute nothing of '.*' here, which holds coreml-fp32-gpu"):
        candidates(bundle, ("coreml",), "ane")


@pytest.mark.usefixtures("mac")
def test_a_unit_that_is_not_here(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macos, "UNITS", ("cpu",))
    with pytest.raises(DeviceUnavailable, match=r"--unit got gpu, this Mac has cpu"):
        opened(bundle, "gpu")
    with pytest.raises(ConfigError, match=r"--device or --unit got 'cuda', Core ML has cpu, gpu, ane, all"):
        opened(bundle, "cuda")


@pytest.mark.usefixtures("mac")
def test_a_system_that_is_too_old(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match=r"coreml-fp32-gpu needs macOS 26, this is 15\.5: export it for"):
        opened(targeted(bundle, macos=26))


@pytest.mark.usefixtures("mac")
def test_a_manifest_that_says_nothing_of_use(bundle: Bundle) -> None:
    """It may be anybody's: what it says of unit and system may be of any type."""
    for target in ({"unit": "tpu", "macos": "new"}, {"unit": ["gpu"], "macos": None}):
        assert opened(targeted(bundle, **target)).unit == "all"


@pytest.mark.usefixtures("mac")
def test_core_ml_that_fails(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("Error Domain=com.apple.CoreML")

    runtime = opened(bundle, "cpu")
    monkeypatch.setattr(macos.Proxy, "predict", fails)
    with pytest.raises(BackendUnavailable, match=r"Core ML failed on a batch of 1: Error Domain=com.apple.CoreML"):
        runtime.predict(*(np.zeros((1, *shape), np.float32) for shape in ((3, 8, 8), ())), np.zeros(1, np.int64))
    monkeypatch.setattr(macos.Proxy, "__init__", fails)
    with pytest.raises(BackendUnavailable, match=r"Core ML does not load '.*' on the CPU: Error Domain"):
        opened(bundle, "cpu")
    monkeypatch.setattr(macos.Proxy, "compileModel", staticmethod(fails))
    with pytest.raises(BackendUnavailable, match=r"Core ML does not compile '.*': Error Domain"):
        opened(bundle, "all")


@pytest.mark.usefixtures("mac")
def test_many_images_with_attention_on_the_gpu(
    pristine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package has no attention; that it has is said here of an operation that it has."""
    both = add_package(shutil.copytree(pristine_bundle, tmp_path / "both"), (4, 12), keep=False)
    assert sorted(opened(both, "gpu").functions) == [4, 12]
    monkeypatch.setattr(coreml, "ATTENTION", frozenset({"mul"}))
    assert sorted(opened(both, "gpu").functions) == [4]
    assert sorted(opened(both, "cpu").functions) == [4, 12]
    runtime = opened(both, "gpu")
    x, y = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32), np.arange(6)
    assert runtime.batched(x, 7, y).shape == x.shape  # cut into what is right
    many = add_package(shutil.copytree(pristine_bundle, tmp_path / "many"), (12,), keep=False)
    with pytest.raises(BackendUnavailable, match=r"computes attention of 12 images in a call wrongly: use --unit"):
        opened(many, "gpu")


def test_elsewhere_it_points_to_the_reference_executor(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match=r"'coreml' is not available: it runs on macOS alone, and --backen"):
        choose(bundle, "coreml")
