"""Latent models: the decoder beside the denoiser, images without PyTorch, and latents where there is no decoder."""

import io
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exporting import export
from latent_models import describe_latents
from PIL import Image

from dexport import commands, fixtures
from dexport.latents import find_decoder
from dexport.lint import FORBIDDEN
from dexport.options import ExportOptions
from dexport.proof import full_proof
from dexport.targets import onnx as onnx_target
from dexport.writer.create import Trained
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError
from drun.files import sha256
from drun.run import parity
from drun.run.decoder import DecoderSession
from drun.run.opening import choose, open_candidate
from dtrain.published import Denoiser

DRUN = """
import sys
from drun.cli import main
sys.argv[1:1] = ["--backend", "ort", "--steps", "3", "-n", "2", "--cfg", "1.5", "--out", "out"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert not {"torch", "diffusers", "dtrain", "dexport"} & set(sys.modules)
"""


def drun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", DRUN, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def exported(sit_checkpoint: Path, tiny_vae: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str]:
    """The bundle with a decoder whose weights lie beside its graph, and what the command said."""
    folder, said = tmp_path_factory.mktemp("bundles") / "sit", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(onnx_target, "EXTERNAL_DATA_BYTES", 30_000)
        options = ExportOptions(folder, None, "1..8", settings=["num_heads=2"], trajectory_steps=3, vae=str(tiny_vae))
        commands.export("onnx", [sit_checkpoint], options)
    return bundles.read(folder), said.getvalue()


def latents(num_images: int) -> torch.Tensor:
    return torch.randn(num_images, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def decode(folder: Path, z: torch.Tensor) -> np.ndarray:
    """As Rombach et al. 2022 publish it, by diffusers itself."""
    from diffusers import AutoencoderKL

    with torch.no_grad():
        return AutoencoderKL.from_pretrained(folder).eval().decode(z / 0.18215).sample.numpy()


def test_the_bundle_holds_both_networks_and_their_proofs(exported: tuple[Bundle, str], sit: Denoiser) -> None:
    bundle, said = exported
    names = {path.name for path in bundle.path.iterdir()}
    assert names >= {"decoder.fp32.onnx", "decoder.fp32.onnx.data", "denoiser.fp32.onnx", "golden.npz", "manifest.json"}
    decoder = bundle.manifest.decoder
    assert decoder is not None
    assert decoder.shape == (3, 64, 64)
    (artifact,) = decoder.artifacts
    assert [entry.path for entry in artifact.files] == ["decoder.fp32.onnx", "decoder.fp32.onnx.data"]
    assert (artifact.format, artifact.precision, artifact.batch) == ("onnx", "fp32", (1, 8))
    assert (artifact.parity["checks"], artifact.parity["passed"]) == (1, True)
    assert artifact.parity["worst"]["name"] == "decoder, batch 2"
    assert 0 < artifact.parity["worst"]["relative_l2"] < artifact.tolerance.call <= 1e-4
    assert "decoder" not in bundle.manifest.artifacts[0].parity["worst"]["name"]
    assert bundle.manifest.data.latent == sit.card.data.latent
    assert f"drun --backend ort --steps 250 --cfg 1.5 --bundle {bundle.path}" in said
    assert "decoder, batch 2" in said


def test_the_decoder_computes_what_diffusers_decodes(exported: tuple[Bundle, str], tiny_vae: Path) -> None:
    expected = decode(tiny_vae, latents(3))
    got = DecoderSession(exported[0])(latents(3).numpy())
    assert got.shape == (3, 3, 64, 64)
    assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)
    assert expected.std() > 0.1


def test_the_decoders_graph_is_static_but_for_the_batch(exported: tuple[Bundle, str]) -> None:
    graph = onnx.load(exported[0].path / "decoder.fp32.onnx", load_external_data=False).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["z", "image"]
    operators = {node.op_type for node in graph.node}
    assert not operators & {*FORBIDDEN, "InstanceNormalization", "Shape", "Slice", "Cast", "If"}
    shapes = [value.type.tensor_type.shape.dim for value in graph.value_info]
    assert len(shapes) > 100
    assert all(dim.dim_value > 0 for shape in shapes for dim in shape[1:])


def test_images_without_pytorch(exported: tuple[Bundle, str], tiny_vae: Path, tmp_path: Path) -> None:
    drun("--bundle", str(exported[0].path), "--save-raw", cwd=tmp_path)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"000000.png", "000001.png", "grid.png", "samples.npz", "raw.npz"}
    image = Image.open(tmp_path / "out" / "000001.png")
    assert (image.mode, image.size) == ("RGB", (64, 64))
    with np.load(tmp_path / "out" / "raw.npz") as raw:
        assert raw["x"].shape == (2, 4, 8, 8)
        assert raw["labels"].tolist() == [0, 1]
        expected = decode(tiny_vae, torch.from_numpy(raw["x"]))[1].transpose(1, 2, 0)
    levels = ((expected + 1) * 127.5).clip(0, 255)
    assert np.abs(np.asarray(image) - levels).max() < 0.51
    assert np.asarray(image).std() > 5


def test_a_wrong_decoder_fails_parity(exported: tuple[Bundle, str], tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", exported[0].manifest)
    shutil.copytree(exported[0].path, bundle.path)
    golden = dict(np.load(bundle.path / "golden.npz"))
    golden["decoder.image"] *= 1.001
    np.savez(bundle.path / "golden.npz", **golden)
    entry = FileEntry("golden.npz", sha256(bundle.path / "golden.npz"))
    wrong = Bundle(bundle.path, replace(bundle.manifest, golden=entry))
    with open_candidate(wrong, choose(wrong, "ort")) as opened:
        results = parity.check(wrong, opened, silent)
    assert [result.name for result in results if not result.passed] == ["decoder, batch 2"]


def test_a_decoder_is_never_left_unproven(exported: tuple[Bundle, str]) -> None:
    bundle, _ = exported
    bare = Bundle(bundle.path, replace(bundle.manifest, decoder=None))
    with (
        open_candidate(bare, choose(bare, "ort")) as opened,
        pytest.raises(BundleError, match="one has no decoder: export again"),
    ):
        parity.check(bare, opened, silent)


@pytest.mark.parametrize(("side", "num_images"), [(16, 2), (17, 1)])
def test_of_large_images_the_golden_file_keeps_one(
    build_small: Any, sit: Denoiser, tiny_vae: Path, tmp_path: Path, side: int, num_images: int
) -> None:
    network = build_small("SiT", input_size=side, patch_size=1)
    large = replace(describe_latents(sit, str(tiny_vae), shape=(4, side, side)), network=network)
    decoder = find_decoder(large, str(tiny_vae))
    assert decoder is not None
    fixtures.write_golden(tmp_path / "golden.npz", large, full_proof(2), silent, decoder)
    with np.load(tmp_path / "golden.npz") as golden:
        assert golden["decoder.z"].shape == (num_images, 4, side, side)
        assert golden["decoder.image"].shape == (num_images, 3, 8 * side, 8 * side)
        # Latents as they are decoded in a run: at the data's end of a trajectory.
        assert np.array_equal(golden["decoder.z"], golden["trajectory0.out"][:num_images])


def test_latents_alone_can_be_drawn(sit: Denoiser, sit_checkpoint: Path, tmp_path: Path) -> None:
    export(Trained(sit, sit_checkpoint), tmp_path / "b", "onnx", (2, 2), full_proof(2))
    done = drun("--bundle", "b", cwd=tmp_path)
    assert "only latents are written: export it again with dexport ... --vae" in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "raw.npz" in names
    assert not {name for name in names if name.endswith(".png")}
    with np.load(tmp_path / "out" / "raw.npz") as raw:
        assert raw["x"].shape == (2, 4, 8, 8)
        assert np.isfinite(raw["x"]).all()
