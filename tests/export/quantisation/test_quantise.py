"""Quantisation from a bundle alone: what the new graph holds, its bytes, and what NNCF must not do."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from exporting import content

from dexport.quantisation import quantise
from dexport.quantisation.recipe import plan
from dexport.writer.add import add_artifact
from dexport.writer.staging import Order
from drun.bundle import reading as bundles
from drun.bundle.artifact import Artifact
from drun.console import silent
from drun.errors import BackendUnavailable, ExportError
from drun.run import parity
from drun.run.opening import Candidate, choose, open_candidate

pytestmark = pytest.mark.usefixtures("few_states")


def artifact_of(bundle: Path) -> Artifact:
    return next(one for one in bundles.read(bundle).manifest.artifacts if one.precision == "int8")


def model_of(bundle: Path, identity: str) -> ov.Model:
    artifact = next(one for one in bundles.read(bundle).manifest.artifacts if one.id == identity)
    return ov.Core().read_model(bundle / artifact.files[0].path)


def test_the_planned_products_alone_are_in_int8(int8_bundle: Path) -> None:
    planned = plan(model_of(int8_bundle, "onnx-fp32"))
    model = model_of(int8_bundle, "openvino-int8")
    weights = Counter(
        op.get_element_type().to_string() for op in model.get_ops() if op.get_type_name() == "Constant" and op.shape
    )
    assert weights["i8"] == len(planned.quantised)
    read_by = {
        reader.get_node().get_friendly_name()
        for op in model.get_ops() if op.get_type_name() == "FakeQuantize"
        for reader in op.output(0).get_target_inputs()
    }  # fmt: skip
    assert read_by
    assert read_by <= {*planned.quantised}


def test_the_artifact_says_what_it_is_and_what_it_loses(int8_bundle: Path) -> None:
    manifest, artifact = bundles.read(int8_bundle).manifest, artifact_of(int8_bundle)
    assert artifact.derived_from == manifest.artifacts[0].files[0].sha256
    assert artifact.target == {"ir": 11, "fp32_times": [[750, 999], [0, 20]]}
    assert artifact.producers.keys() == {"openvino", "nncf"}
    assert artifact.batch == manifest.artifacts[0].batch
    assert artifact.parity is not None
    loss = artifact.parity["loss"]
    assert (loss["images"], loss["sampler"]) == (16, manifest.sampler.name)
    assert loss["psnr_db"] is not None
    assert 15 < loss["psnr_db"] < 90


def test_it_computes_nearly_what_pytorch_computed(int8_bundle: Path) -> None:
    bundle = bundles.read(int8_bundle)
    with open_candidate(bundle, choose(bundle, precision="int8")) as opened:
        errors = {result.name: result.relative_l2 for result in parity.check(bundle, opened, silent)}
    for name, error in errors.items():
        assert 0 < error < 0.3, name
        if name.startswith("call"):  # float32 near both ends of time
            assert (error < 1e-4) == any(name.endswith(f"t = {t}") for t in (0, 1, 800, 999)), (name, error)


def test_a_source_of_one_batch(onnx_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    add_artifact(folder, Order("openvino", "int8", allow_drift=True), silent)
    assert artifact_of(folder).batch == (2, 2)


ALONE = """
import builtins, socket, sys
sys.modules["torch"] = None
tried = []
def refused(*_, **__):
    tried.append(True)  # whoever reports may hide the error
    raise OSError("refused")
socket.socket.connect = refused
from dexport.quantisation import states
states.NUM_STATES, states.NUM_STEPS = 24, 8
from dexport.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert not tried, "it opened a connection"
assert not any(name.startswith(("onnxscript", "dtrain", "openvino_telemetry")) for name in sys.modules)
"""


@pytest.mark.slow
def test_another_process_makes_the_same_bytes_without_pytorch_and_tells_nobody(
    free_bundle: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    folder, home = shutil.copytree(free_bundle, tmp_path / "bundle"), tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", ALONE, "openvino", folder, "--precision", "int8", "--allow-drift"]
    environment = os.environ | {"HOME": str(home)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [*home.rglob("*")] == []
    assert "INFO:nncf" not in done.stdout + done.stderr
    assert "Statistics collection" not in done.stdout
    made, others = (
        {name: file for name, file in content(path).items() if "int8" in Path(name).name}
        for path in (folder, int8_bundle)
    )
    assert len(made) == 2
    assert [*made.values()] == [*others.values()]


def test_logging_is_left_as_it_was() -> None:
    quantise.quantiser()
    assert logging.getLoggerClass() is logging.Logger


def test_without_nncf(free_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    folder = shutil.copytree(free_bundle, tmp_path / "bundle")
    before = content(folder)
    with pytest.raises(BackendUnavailable, match=r"^int8 needs nncf, .*; pip install 'dexport\[int8\]'$"):
        add_artifact(folder, Order("openvino", "int8"), silent)
    assert content(folder) == before


def test_one_stage_of_a_network_is_refused(free_bundle: Path) -> None:
    bundle = bundles.read(free_bundle)
    artifact = bundle.manifest.artifacts[0]
    object.__setattr__(artifact, "io", (artifact.io[0], artifact.io[-1]))
    with pytest.raises(ExportError, match="int8 is made of a graph with x and t, onnx-fp32 takes x"):
        quantise.in_int8(bundle, artifact, model_of(free_bundle, "onnx-fp32"), silent)


def test_one_seed_one_image(int8_bundle: Path) -> None:
    """Also where a batch is filled up, and on both sides of the end of time."""
    bundle = bundles.read(int8_bundle)
    with open_candidate(bundle, Candidate("openvino", artifact_of(int8_bundle), "int8")) as opened:
        x = np.random.default_rng(0).standard_normal((3, *bundle.manifest.data.shape)).astype(np.float32)
        for t in (995.0, 500.0):
            together = opened.call(x, t, None).copy()
            np.testing.assert_allclose(opened.call(x[:1], t, None), together[:1], rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_nncf_sends_nothing() -> None:
    """Its telemetry is a stub, and the name is free again afterwards."""
    code = (
        "import sys; from dexport.quantisation.quantise import quantiser\n"
        "quantiser()\n"
        "from nncf.telemetry.wrapper import telemetry\n"
        "print('openvino_telemetry' in sys.modules, type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
    assert "NNCFTelemetry" not in done.stdout  # the class that sends
