"""A network in two graphs, from export to images: beside the one graph, derived, and of latents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporting import FULL_CHECKS, STATIC, content, ids
from latent_models import describe_latents

from dexport.latents import find_decoder
from dexport.proof import QUICK_PROOF, full_proof
from dexport.writer.add import add_artifact
from dexport.writer.create import CONDITIONING_BATCH, Trained, create_bundle
from dexport.writer.staging import Order, Written
from drun.bundle import reading as bundles
from drun.console import silent
from drun.errors import BundleError
from drun.library import load
from dtrain.published import Denoiser

SPLIT = Order("onnx", batch=STATIC, variant="split")
FILES = ["denoiser.fp32-split.onnx", "conditioning.fp32-split.onnx"]


def add(trained: Trained, out: Path, order: Order = SPLIT) -> Written:
    return create_bundle(trained, order, out, full_proof(3), silent)


@pytest.fixture(scope="module")
def made(onnx_bundle: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = shutil.copytree(onnx_bundle, tmp_path_factory.mktemp("bundles") / "split")
    add(trained, path)
    return path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """Of one graph and of two."""
    return shutil.copytree(made, tmp_path / "bundle")


def test_both_graphs_are_one_artifact_beside_the_others(bundle: Path, onnx_bundle: Path, trained: Trained) -> None:
    before, after = content(onnx_bundle), {Path(path).name: data for path, data in content(bundle).items()}
    assert {**{Path(path).name: data for path, data in before.items()}, "manifest.json": after["manifest.json"]} == {
        name: data for name, data in after.items() if name not in FILES
    }
    unsplit, split = bundles.read(bundle).manifest.artifacts
    assert (split.id, split.io, split.batch) == ("onnx-fp32-split", unsplit.io, STATIC)
    assert [entry.path for entry in split.files] == FILES
    assert split.conditioning is not None
    assert (split.conditioning.files, split.conditioning.batch) == ((FILES[1],), CONDITIONING_BATCH)
    assert split.parity is not None
    assert (split.parity["checks"], split.parity["passed"]) == (FULL_CHECKS, True)
    again = add(trained, bundle)
    assert (again.held, again.dropped, ids(bundle)) == ([unsplit.id, split.id], [], [unsplit.id, split.id])
    assert trained.denoiser.network.state_dict().keys() >= {"mid_block1.mlp.1.weight"}  # it is left as it was


def test_each_weight_is_in_one_of_the_graphs(bundle: Path) -> None:
    """The denoiser has none of the time, the conditioning graph none of the images."""
    sizes = {}
    for name in ("denoiser.fp32.onnx", *FILES):
        graph = onnx.load(bundle / name).graph
        sizes[name] = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims) >= 2)
        names = [value.name for value in (*graph.input, *graph.output)]
        assert names == {FILES[0]: ["x", "c", "out"], FILES[1]: ["t", "c"]}.get(name, ["x", "t", "out"])
    whole, denoiser, conditioning = sizes.values()
    assert min(denoiser, conditioning) > 1000
    assert abs(denoiser + conditioning - whole) < 100


def test_ir_in_two_graphs_is_made_of_onnx_in_two(bundle: Path) -> None:
    for variant in ("", "split"):
        add_artifact(bundle, Order("openvino", variant=variant), silent)
    assert ids(bundle) == ["onnx-fp32", "onnx-fp32-split", "openvino-fp32", "openvino-fp32-split"]
    one, two, of_one, of_two = bundles.read(bundle).manifest.artifacts
    assert (of_one.derived_from, of_two.derived_from) == (one.files[0].sha256, two.files[0].sha256)
    assert of_two.conditioning is not None
    assert of_two.conditioning.files == ("conditioning.fp32-split.xml", "conditioning.fp32-split.bin")
    assert (of_two.batch, of_two.parity["passed"]) == (STATIC, True)
    with (
        load(bundle).session("openvino", artifact=of_two.id) as split,
        load(bundle).session("openvino", artifact=of_one.id) as unsplit,
    ):
        images = [session.sample(2, steps=3, output="float") for session in (split, unsplit)]
    np.testing.assert_allclose(*images, atol=1e-4)


def test_only_the_denoiser_is_of_a_lower_precision(sit: Denoiser, sit_checkpoint: Path, tmp_path: Path) -> None:
    order = Order("onnx", "bf16", STATIC, "split")
    create_bundle(Trained(sit, sit_checkpoint), order, tmp_path / "b", QUICK_PROOF, silent)
    (artifact,) = bundles.read(tmp_path / "b").manifest.artifacts
    conditioning, denoiser = artifact.stages()
    assert (artifact.id, conditioning.precision, denoiser.precision) == ("onnx-bf16-split", "fp32", "bf16")
    for stage, is_low in ((conditioning, False), (denoiser, True)):
        graph = onnx.load(tmp_path / "b" / stage.files[0].path).graph
        dtypes = {tensor.data_type for tensor in graph.initializer}
        assert onnx.TensorProto.FLOAT in dtypes
        assert (onnx.TensorProto.BFLOAT16 in dtypes) == is_low
        values = (*graph.input, *graph.output)
        assert {value.type.tensor_type.elem_type for value in values} <= {
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.INT64,
        }


def test_a_bundle_without_it_names_the_command(onnx_bundle: Path, tmp_path: Path) -> None:
    path = shutil.copytree(onnx_bundle, tmp_path / "bundle")
    with pytest.raises(
        BundleError, match=r"no split onnx artifact in fp32, of which openvino is made: type .* --split$"
    ):
        add_artifact(path, Order("openvino", variant="split"), silent)


@pytest.mark.slow
def test_the_decoder_of_latents_is_in_the_bundle_once(
    sit: Denoiser, sit_checkpoint: Path, tiny_vae: Path, tmp_path: Path
) -> None:
    denoiser = describe_latents(sit, str(tiny_vae))
    trained = Trained(denoiser, sit_checkpoint, find_decoder(denoiser, str(tiny_vae)))
    for orders in ((SPLIT, Order("onnx", batch=STATIC)), (Order("onnx", batch=STATIC), SPLIT)):
        path = tmp_path / (orders[0].variant or "one")
        for order in orders:
            written = add(trained, path, order)
            assert written.results[-1].name == "decoder, batch 2"
        read = bundles.read(path)
        assert read.manifest.decoder is not None
        (decoder,) = read.manifest.decoder.artifacts
        assert (decoder.id, decoder.parity["passed"]) == ("onnx-fp32", True)
        assert sorted(ids(path)) == ["onnx-fp32", "onnx-fp32-split"]
        read.check_files()
    for variant in ("split", ""):
        add_artifact(path, Order("openvino", variant=variant), silent)
    found = bundles.read(path).manifest.decoder
    assert found is not None
    assert [(one.id, one.parity["passed"]) for one in found.artifacts] == [("onnx-fp32", True), ("openvino-fp32", True)]
    with load(path).session("openvino", artifact="openvino-fp32-split") as session:
        assert session.sample(1, steps=2).shape == (1, 64, 64, 3)


# ---- commands -------------------------------------------------------------------------------------------


@pytest.fixture
def command(in_process: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    return lambda package, *words: in_process(package)(*map(str, words))


@pytest.mark.slow
def test_the_commands(command: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = command("dexport", "openvino", tiny_checkpoint, "--split", "--quick", "--batch", "2", "-o", out)
    assert done.code == 0, done.err
    assert "added onnx-fp32-split\n" in done.out
    assert "added openvino-fp32-split\n" in done.out
    done = command("drun", "check", out, "--all", "--backend", "ort", "--backend", "openvino", "--json")
    candidates = [row["artifact"] for row in json.loads(done.out)["targets"]]
    assert {*candidates} == {"onnx-fp32-split", "openvino-fp32-split"}
    done = command("drun", "info", out)
    assert "onnx-fp32-split" in done.out


def test_a_target_of_one_graph_refuses(command: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = command("dexport", "pt2", tiny_checkpoint, "--split", "-o", tmp_path / "b")
    assert (done.code, done.out) == (1, "")
    assert "--split: dexport pt2 makes one graph only" in done.err
    assert not (tmp_path / "b").exists()
