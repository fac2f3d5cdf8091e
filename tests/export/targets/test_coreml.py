"""Core ML packages of real networks, proven by the reference executor."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from exporting import export, load_trained
from typer.testing import CliRunner

from dexport import cli, targets
from dexport.apple import rules
from dexport.latents import find_decoder
from dexport.proof import QUICK_PROOF
from dexport.writer.create import create_bundle
from dexport.writer.staging import Order
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES, Tolerance
from drun.console import silent
from drun.errors import ConfigError, ParityError
from drun.mil.executor import Executor
from drun.mil.package import Package


@pytest.fixture(scope="module")
def written(sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "sit"
    order = Order("coreml", "fp16", None, "gpu", 18)
    create_bundle(load_trained(sit_checkpoint, num_heads="2"), order, out, QUICK_PROOF, silent)
    return out


def test_the_artifact_says_what_it_is(written: Path) -> None:
    bundle = bundles.read(written)
    (artifact,) = bundle.manifest.artifacts
    assert (artifact.id, artifact.root) == ("coreml-fp16-gpu", "denoiser.fp16-gpu.mlpackage")
    assert artifact.batch == (1, 2)
    assert artifact.target == {"ios": 18, "macos": 15, "unit": "gpu"}
    assert artifact.producers.keys() == {"torch", "coremltools"}
    assert artifact.parity is not None
    assert artifact.parity["passed"]
    assert "reference executor" in artifact.parity["backend"]
    assert bundle.unlisted() == []


def test_the_package_carries_what_the_manifest_says(written: Path) -> None:
    bundle = bundles.read(written)
    package = Package(written / "denoiser.fp16-gpu.mlpackage")
    stated = json.loads(package.metadata["com.dexport.model"])
    assert stated["prediction"] == bundle.manifest.prediction
    assert stated["checkpoint_sha256"] == bundle.manifest.model.checkpoint["sha256"]
    assert stated["process"] == bundle.manifest.process
    assert sorted(package.program.functions) == ["batch_1", "batch_2"]


def test_fp32_is_within_its_tolerance(sit_checkpoint: Path, tmp_path: Path) -> None:
    trained = load_trained(sit_checkpoint, num_heads="2")
    order = Order("coreml", "fp32", (2, 2), "gpu", 17)
    found = create_bundle(trained, order, tmp_path / "b", QUICK_PROOF, silent)
    assert found.artifact.batch == (2, 2)
    assert max(result.relative_l2 for result in found.results if result.name.startswith("call")) < 2e-6


@pytest.mark.parametrize("name", ["SiT", pytest.param("TwoResUNet", marks=pytest.mark.slow)])
def test_the_neural_engines_package(name: str, sit_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Two graphs, of which the conditioning is in float32; the other breaks none of Apple's rules."""
    trained = load_trained(sit_checkpoint, num_heads="2") if name == "SiT" else load_trained(tiny_checkpoint)
    found = create_bundle(trained, Order("coreml", "fp16", None, "ane", 18), tmp_path / "b", QUICK_PROOF, silent)
    artifact = found.artifact
    assert (artifact.id, artifact.root) == ("coreml-fp16-ane", "denoiser.fp16-ane.mlpackage")
    assert artifact.conditioning is not None
    assert artifact.conditioning.root == "conditioning.fp16-ane.mlpackage"
    assert all(result.passed for result in found.results)
    assert min(result.psnr_db for result in found.results if result.psnr_db is not None) > 45
    first = Executor(Package(tmp_path / "b" / artifact.conditioning.root))
    assert {type.dtype for one in first.instructions for _, type in one.outputs} <= {"fp32", "int32", "bool", "int16"}
    executor = Executor(Package(tmp_path / "b" / artifact.root))
    assert rules.broken(executor) == []
    assert {one.side for one in rules.padded(executor)} <= {1, 2, 4, 8, 16, 24, 36}  # maps, and columns of c


@pytest.mark.slow
def test_weights_in_fewer_bits_pass_a_gate(
    sit_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, order = load_trained(sit_checkpoint, num_heads="2"), Order("coreml", "palette6", (1, 1), "gpu", 18)
    found = create_bundle(trained, order, tmp_path / "b", QUICK_PROOF, silent)
    assert found.artifact.id == "coreml-palette6-gpu"
    calls = [one for one in found.results if one.name.startswith("call")]
    assert {one.allowed for one in calls} == {"35 dB"}
    assert min(one.psnr_db for one in calls) > 45
    monkeypatch.setitem(TOLERANCES, "palette6", Tolerance(0.3, 0.3, 90.0))
    with pytest.raises(
        ParityError, match=r"coreml-palette6-gpu: call, .*: [56]\d\.\d dB from eager PyTorch, allowed 90 dB"
    ):
        create_bundle(trained, order, tmp_path / "c", QUICK_PROOF, silent)
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_the_decoder_of_a_latent_model(sit_checkpoint: Path, tiny_vae: Path, tmp_path: Path) -> None:
    trained = load_trained(sit_checkpoint, num_heads="2")
    latent = replace(trained, decoder=find_decoder(trained.denoiser, str(tiny_vae)))
    order = Order("coreml", "fp16", (1, 1), "gpu", 18)
    found = create_bundle(latent, order, tmp_path / "b", QUICK_PROOF, silent)
    (decoded,) = [one for one in found.results if one.name.startswith("decoder")]
    assert decoded.psnr_db > 45
    decoder = bundles.read(tmp_path / "b").manifest.decoder
    assert decoder is not None
    assert [one.root for one in decoder.artifacts] == ["decoder.fp16.mlpackage"]


def test_it_stands_beside_others(sit_checkpoint: Path, tmp_path: Path) -> None:
    trained = load_trained(sit_checkpoint, num_heads="2")
    export(trained, tmp_path / "b", "onnx", (2, 2), QUICK_PROOF)
    create_bundle(trained, Order("coreml", "fp32", (2, 2), "gpu", 18), tmp_path / "b", QUICK_PROOF, silent)
    assert [one.id for one in bundles.read(tmp_path / "b").manifest.artifacts] == ["onnx-fp32", "coreml-fp32-gpu"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["onnx", "a.pt", "--unit", "gpu"], r"--unit got 'gpu', dexport onnx has no units: leave it out"),
        (["coreml", "a.pt", "--unit", "tpu"], r"--unit got 'tpu', expected one of gpu, ane"),
        (["coreml", "a.pt", "--ios", "15"], r"--ios got 15, expected one of 18, 17"),
        (["onnx", "a.pt", "--ios", "18"], r"--ios got 18, dexport onnx has no such choice"),
        (["coreml", "a.pt", "--precision", "bf16"], r"--precision got 'bf16', dexport coreml makes fp16, fp32"),
        (
            ["coreml", "a.pt", "--ios", "17", "--batch", "1..2"],
            r"for iOS 17 calls have one size: type --batch 2, or take",
        ),
        (["coreml", "a.pt", "--ios", "17", "--precision", "palette6"], r"for iOS 17 weights stay whole: type fp16, or"),
        (["coreml", "a.pt", "--split"], r"makes two graphs for some units: type --unit ane"),
    ],
)
def test_wrong_words(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, ConfigError)
    assert re.search(message, str(result.exception))


def test_the_help_names_the_units() -> None:
    assert (targets.units("coreml"), targets.systems("coreml")) == (["gpu", "ane"], [18, 17])
    assert "--unit" not in CliRunner().invoke(cli.app, ["onnx", "--help"]).output
