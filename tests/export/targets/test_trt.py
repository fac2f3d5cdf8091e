"""TensorRT plans of a bundle's ONNX graph: real ones, by tensorrt_rtx, which needs no GPU to build them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from exporting import export, load_trained

from dexport.proof import QUICK_PROOF
from dexport.targets import trt as target
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order
from drun import trust
from drun.backends.trt import library
from drun.backends.trt.profiles import profiles_for
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.device import cuda
from drun.errors import BackendUnavailable, BundleError, ExportError
from drun.extras import is_installed

pytestmark = [
    pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx"),
    pytest.mark.skipif(cuda.why_none() is None, reason="there is a GPU, which proves what is built"),
]


def with_plan(bundle: Path, precision: str = "fp32", batch: tuple[int, int] | None = None) -> Bundle:
    return add_artifact(bundle, Order("trt", precision, batch), silent).bundle


@pytest.fixture
def own(free_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(free_bundle, tmp_path / "own")


def test_a_plan_says_what_it_was_built_for_and_that_nobody_has_proven_it(own: Path) -> None:
    bundle = with_plan(own)
    source, plan = bundle.manifest.artifacts
    assert (plan.id, plan.io, plan.batch, plan.parity) == ("trt-fp32", source.io, source.batch, None)
    assert plan.target["batches"] == [str(one) for one in profiles_for(source.batch)]
    assert {"SM80", "SM89", "SM120"} <= set(plan.target["gpus"])  # type: ignore[arg-type]
    assert plan.producers.keys() == {"tensorrt_rtx"}
    assert plan.derived_from == source.files[0].sha256
    assert trust.is_trusted(plan.files[0].sha256)
    assert (own / plan.files[0].path).stat().st_size > 100_000
    assert bundles.read(own).manifest.artifacts == bundle.manifest.artifacts


@pytest.mark.parametrize(("batch", "profiles"), [((4, 4), ["4"]), ((4, 8), ["4", "8"])])
def test_a_plan_for_some_batches(own: Path, batch: tuple[int, int], profiles: list[str]) -> None:
    plan = with_plan(own, batch=batch).manifest.artifacts[-1]
    assert (plan.batch, plan.target["batches"]) == (batch, profiles)


@pytest.mark.slow
def test_half_precision_is_made_of_a_graph_in_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Of a float32 graph none is made, for TensorRT chooses no precisions."""
    trained: Trained = load_trained(tiny_checkpoint)
    out = tmp_path / "bundle"
    export(trained, out)
    with pytest.raises(BundleError, match=r"has no onnx artifact in fp16, of which trt is made: .* --precision fp16"):
        with_plan(out, "fp16")
    create_bundle(trained, Order("onnx", "fp16", (1, 8)), out, QUICK_PROOF, silent)
    plan = with_plan(out, "fp16").manifest.artifacts[-1]
    assert plan.id == "trt-fp16"
    assert plan.derived_from == bundles.read(out).manifest.artifacts[1].files[0].sha256


def test_the_full_library_builds_on_a_gpu_only(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "capabilities", tuple)
    with pytest.raises(BackendUnavailable, match=r"builds on a GPU only: pip install 'dexport\[rtx\]' builds without"):
        with_plan(own)


def test_without_tensorrt(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda name: False)
    library.library.cache_clear()
    try:
        with pytest.raises(BackendUnavailable, match=r"TensorRT is not installed; install it with: pip install"):
            with_plan(own)
    finally:
        library.library.cache_clear()


def test_a_graph_that_tensorrt_does_not_build(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise BackendUnavailable("TensorRT builds no plan")

    monkeypatch.setattr(target, "build", refused)
    before = sorted(own.iterdir())
    with pytest.raises(ExportError, match="TensorRT builds no plan"):
        with_plan(own)
    assert sorted(own.iterdir()) == before


def test_no_pytorch_is_imported(own: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from dexport import cli
sys.argv = ["dexport", "trt", {str(own)!r}]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "added trt-fp32" in done.stdout
    assert "trt-fp32 is not proven here" in done.stderr
