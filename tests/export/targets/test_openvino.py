"""OpenVINO IR, made of a bundle's ONNX graph: what is in it, and that it computes what eager PyTorch computed."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import openvino as ov
import pytest
from exporting import STATIC, export, load_trained

from dexport.latents import find_decoder
from dexport.targets import Source
from dexport.targets import openvino as target
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained
from dexport.writer.staging import Order
from drun.backends.openvino import graph
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import ExportError
from drun.run import parity
from drun.run.decoder import DecoderSession
from drun.run.opening import Candidate, candidates, open_candidate

ARITHMETICS = ("fp32", "bf16") if "BF16" in graph.capabilities() else ("fp32",)


@pytest.fixture(scope="module")
def latent(sit_checkpoint: Path, tiny_vae: Path) -> Trained:
    trained = load_trained(sit_checkpoint, num_heads="2")
    return replace(trained, decoder=find_decoder(trained.denoiser, str(tiny_vae)))


def with_ir(bundle: Path) -> Bundle:
    return add_artifact(bundle, Order("openvino", "fp32", None), silent).bundle


@pytest.fixture(scope="module")
def unet(free_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return with_ir(shutil.copytree(free_bundle, tmp_path_factory.mktemp("bundles") / "unet"))


@pytest.fixture(scope="module")
def transformer(latent: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of latents, with its decoder."""
    out = tmp_path_factory.mktemp("bundles") / "transformer"
    export(latent, out)
    return with_ir(out)


@pytest.fixture(scope="module", params=["unet", pytest.param("transformer", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest) -> Bundle:
    """Each with ONNX and IR."""
    bundle: Bundle = request.getfixturevalue(request.param)
    return bundle


def source_of(bundle: Bundle, path: Path | None = None, batch: tuple[int, int] | None = None) -> Source:
    artifact = bundle.manifest.artifacts[0]
    file = path or bundle.path / artifact.files[0].path
    batch = batch or artifact.batch
    return Source("new", file, artifact, "fp32", artifact.io, batch, artifact.tolerance, bundle, silent)


def opened_by(bundle: Bundle) -> list[Candidate]:
    return candidates(bundle, ["openvino"])


def test_each_artifact_in_each_arithmetic_computes_what_pytorch_computed(made: Bundle) -> None:
    names = [candidate.name for candidate in opened_by(made)]
    assert [name.replace(" in bf16", "") for name in names[:: len(ARITHMETICS)]] == [
        "openvino openvino-fp32", "openvino onnx-fp32",
    ]  # fmt: skip
    assert len(names) == 2 * len(ARITHMETICS)
    worst = {}
    for candidate in opened_by(made):
        with open_candidate(made, candidate) as opened:
            results = parity.check(made, opened, silent)
        assert all(result.passed for result in results), candidate.name
        worst[candidate.name] = parity.worst(results).relative_l2 or 0
    for name, error in worst.items():
        assert (error > 1e-4) == ("bf16" in name), worst


def test_the_artifact_says_what_it_is(made: Bundle) -> None:
    source, artifact = made.manifest.artifacts
    assert (artifact.id, artifact.io, artifact.batch) == ("openvino-fp32", source.io, source.batch)
    assert artifact.derived_from == source.files[0].sha256
    assert artifact.parity
    assert artifact.parity["passed"]
    assert artifact.producers == {"openvino": ov.__version__.partition("-")[0]}


def test_weights_stay_in_float32_and_no_path_of_this_machine_is_in_it(made: Bundle) -> None:
    for artifact in (
        made.manifest.artifacts[1],
        *(made.manifest.decoder.artifacts[1:] if made.manifest.decoder else ()),
    ):
        xml, weights = (made.path / entry.path for entry in artifact.files)
        model = ov.Core().read_model(xml, weights)
        assert [port.any_name for port in (*model.inputs, *model.outputs)] == [tensor.name for tensor in artifact.io]
        types = {op.get_element_type() for op in model.get_ops() if op.get_type_name() == "Constant"}
        assert ov.Type.f32 in types
        assert not types & {ov.Type.f16, ov.Type.bf16}
        for place in (str(made.path), str(Path.home()), str(Path(sys.prefix))):
            assert place.encode() not in xml.read_bytes()


def test_the_same_graph_gives_the_same_bytes(made: Bundle, tmp_path: Path) -> None:
    """In one process, where OpenVINO goes on counting what it names."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    one, other = (target.derive(source_of(made), folder) for folder in folders)
    assert one.files == other.files


def test_a_batch_of_one_size_is_static(made: Bundle, tmp_path: Path) -> None:
    artifact = target.derive(source_of(made, batch=(4, 4)), tmp_path)
    assert artifact.batch == (4, 4)
    model = ov.Core().read_model(tmp_path / artifact.files[0].path)
    assert model.inputs[0].shape[0] == model.outputs[0].shape[0] == 4


def test_a_graph_that_openvino_does_not_read(made: Bundle, tmp_path: Path) -> None:
    (tmp_path / "new.onnx").write_bytes(b"hello")
    with pytest.raises(ExportError, match=r"^OpenVINO cannot read '.*new.onnx': [^\n]+$"):
        target.derive(source_of(made, tmp_path / "new.onnx"), tmp_path)


@pytest.mark.slow
def test_the_decoder_runs_where_the_denoiser_runs(transformer: Bundle) -> None:
    with (
        open_candidate(transformer, opened_by(transformer)[len(ARITHMETICS) - 1]) as opened,
        DecoderSession(transformer, opened) as decoder,
    ):
        assert decoder.candidate.name == opened.candidate.name


ALONE = """
import sys
sys.modules["torch"] = None
from dexport.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert not any(name.startswith(("onnxscript", "dtrain", "openvino_telemetry")) for name in sys.modules)
"""


def test_neither_pytorch_nor_the_checkpoint_is_needed(onnx_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    command = [sys.executable, "-c", ALONE, "openvino", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = bundles.read(folder).manifest.artifacts[1]
    assert (made.id, made.batch) == ("openvino-fp32", STATIC)
    assert made.parity
    assert made.parity["passed"]
