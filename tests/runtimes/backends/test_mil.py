"""The reference executor as a backend: a Core ML package samples like any other graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coreml_bundles import ROOT, add_package

from drun.backends.mil import Runtime
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError
from drun.library import load
from drun.run import parity
from drun.run.opening import choose, open_candidate


@pytest.fixture(scope="module")
def written(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreml") / "b"
    shutil.copytree(pristine_bundle, folder)
    add_package(folder)
    return folder


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Bundle:
    return bundles.read(shutil.copytree(written, tmp_path / "b"))


def package_of(bundle: Bundle) -> Runtime:
    return Runtime(bundle, bundle.manifest.artifacts[1], "fp32")


@pytest.mark.parametrize("size", [1, 2])
def test_it_computes_what_the_closed_form_says(
    bundle: Bundle, size: int, exact_noise: Callable[..., np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((size, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, size)
    found = package_of(bundle).predict(x, np.full(size, 7, np.float32), y)
    np.testing.assert_allclose(found, exact_noise(x, 7, y), rtol=1e-4, atol=1e-5)


def test_it_passes_the_golden_file(bundle: Bundle) -> None:
    with open_candidate(bundle, choose(bundle, "mil")) as opened:
        results = parity.check(bundle, opened, silent)
    assert results
    assert all(result.passed for result in results)


def test_the_same_images_as_onnx_runtime(bundle: Bundle) -> None:
    def images(backend: str) -> np.ndarray:
        with load(bundle.path).session(backend) as session:
            return session.sample(3, seed=4, steps=8, labels=[1, 2, 3], output="float", batch=2)

    np.testing.assert_allclose(images("mil"), images("ort"), atol=1e-4)


def test_a_size_between_is_filled_up(pristine_bundle: Path, tmp_path: Path) -> None:
    """A package for 2 and 4 images computes 3 by the function for 4."""
    bundle = add_package(shutil.copytree(pristine_bundle, tmp_path / "b"), (2, 4))
    rng = np.random.default_rng(0)
    x, t, y = rng.standard_normal((3, 3, 8, 8)).astype(np.float32), np.full(3, 7, np.float32), np.array([1, 2, 3])
    runtime = package_of(bundle)
    found = runtime.predict(x, t, y)
    assert found.shape == x.shape
    np.testing.assert_array_equal(found[:2], runtime.predict(x[:2], t[:2], y[:2]))


def test_nobody_gets_it_where_something_faster_is(bundle: Bundle) -> None:
    assert choose(bundle).backend == "ort"


def test_it_is_what_opens_a_bundle_of_a_package_alone(pristine_bundle: Path, tmp_path: Path) -> None:
    bundle = add_package(shutil.copytree(pristine_bundle, tmp_path / "b"), keep=False)
    assert choose(bundle).name == "mil coreml-fp32-gpu"


@pytest.mark.parametrize("name", ["Manifest.json", "model.mlmodel", "weight.bin"])
def test_a_file_that_is_not_listed_is_refused(bundle: Bundle, name: str) -> None:
    artifact = bundle.manifest.artifacts[1]
    files = tuple(entry for entry in artifact.files if not entry.path.endswith(name))
    wrong = replace(artifact, files=files)
    with pytest.raises(BundleError, match=rf"{name}' is not listed in the bundle's manifest: export it again$"):
        Runtime(bundle, wrong, "fp32")


def test_a_damaged_file_is_refused(bundle: Bundle) -> None:
    path = next((bundle.path / ROOT).rglob("weight.bin"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"weight\.bin"):
        package_of(bundle)


@pytest.mark.parametrize("batch", [(1, 1), (1, 4), (2, 2)])
def test_another_batch_than_the_manifests_is_refused(bundle: Bundle, batch: tuple[int, int]) -> None:
    wrong = replace(bundle.manifest.artifacts[1], batch=batch)
    with pytest.raises(BundleError, match=rf"takes 1 to 2 images a call, its manifest says {batch[0]} to {batch[1]}"):
        Runtime(bundle, wrong, "fp32")
