import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dexport import deploy, writer
from dexport.fixtures import QUICK_PROOF, full_proof
from dexport.lint import FORBIDDEN
from dexport.targets import onnx as onnx_target
from drun import backends
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.samplers import resolve, step_table
from drun.errors import BundleError, ParityError
from drun.run import images, parity
from drun.run.sampling import SamplingSettings, open_sampling
from dtrain import published

#: Traced in half the time of a dynamic batch.
STATIC = (2, 2)


def write(
    checkpoint: Path, out: Path, batch: tuple[int, int] = (1, 8), weights: str = "ema", **settings: str
) -> Bundle:
    denoiser = published.load(checkpoint, weights, settings)
    writer.write_bundle(denoiser, checkpoint, "onnx", out, batch, full_proof(3), silent)
    return bundles.read(out)


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(tiny_checkpoint, tmp_path_factory.mktemp("bundles") / "tiny")


def test_the_bundle_is_complete_and_describes_the_checkpoint(bundle: Bundle, tiny_checkpoint: Path) -> None:
    manifest, artifact = bundle.manifest, bundle.manifest.artifacts[0]
    assert sorted(path.name for path in bundle.path.iterdir()) == ["denoiser.fp32.onnx", "golden.npz", "manifest.json"]
    assert manifest.model.checkpoint["sha256"] == hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()
    assert manifest.model.checkpoint["initial_share"] == 0.99
    assert (manifest.prediction, manifest.data.shape, manifest.classes) == ("noise", (1, 16, 16), None)
    assert manifest.process == {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
    assert (artifact.format, artifact.precision, artifact.batch) == ("onnx", "fp32", (1, 8))
    assert artifact.parity["passed"]
    assert artifact.parity["worst"]["relative_l2"] > 0
    assert json.loads(manifest.to_json())["schema_version"] == manifests.SCHEMA_VERSION


def test_the_graph_has_the_manifests_io_and_nothing_that_runtimes_misread(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "denoiser.fp32.onnx")
    onnx.checker.check_model(model, full_check=True)
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert names == [tensor.name for tensor in bundle.manifest.artifacts[0].io]
    assert str(Path.home()).encode() not in model.SerializeToString()
    assert b"torch/nn/modules" not in model.SerializeToString()
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {*FORBIDDEN, "InstanceNormalization"}
    assert model.opset_import[0].version == 20
    num_weights = sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert num_weights <= bundle.manifest.model.parameters + 100


@pytest.mark.parametrize("num_images", [1, 2, 3, 8])
@pytest.mark.parametrize("t", [0.0, 1.0, 500.0, 999.0])
def test_single_calls_agree_with_eager_to_1e_5(
    bundle: Bundle, tiny_checkpoint: Path, num_images: int, t: float
) -> None:
    network = published.load(tiny_checkpoint).network
    x = torch.randn(num_images, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    times = torch.full((num_images,), t)
    session = onnxruntime.InferenceSession(bundle.path / "denoiser.fp32.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": x.numpy(), "t": times.numpy()})[0]
    with torch.no_grad():
        expected = network(x, times).numpy()
    assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)
    assert np.linalg.norm(expected) > 1


def test_a_250_step_trajectory_on_the_same_noise_agrees_with_eager_to_1e_3(
    bundle: Bundle, tiny_checkpoint: Path
) -> None:
    denoiser = published.load(tiny_checkpoint)
    options = resolve("ddpm", {"clip_x0": True})
    noise = PhiloxNoise(5, [0, 1], denoiser.card.data.shape)

    @torch.no_grad()
    def eager(x: torch.Tensor, t: float, w: float) -> torch.Tensor:
        return denoiser.network(x, torch.full((len(x),), t))

    table = step_table("ddpm", denoiser.card.process, "noise", 250, options)
    expected = sample(eager, torch.from_numpy(noise()), table, lambda: torch.from_numpy(noise())).numpy()
    backend = backends.open_backend("ort", bundle)
    settings = SamplingSettings("ddpm", options, 250, seed=5)
    got = open_sampling(bundle, backend, settings).draw([0, 1], lambda row, x: None)
    comparison = parity.compare("250 steps", expected, got, 1e-3)
    assert comparison.passed, comparison
    assert images.to_uint8(expected).std() > 0


def test_online_weights_differ_from_the_average(bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    online = write(tiny_checkpoint, tmp_path / "online", weights="online")
    assert online.manifest.model.checkpoint["weights"] == "online"
    assert online.manifest.artifacts[0].files[0].sha256 != bundle.manifest.artifacts[0].files[0].sha256


def test_a_static_batch_serves_any_number_of_images(bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    static = write(tiny_checkpoint, tmp_path / "static", batch=(4, 4))
    graph = onnx.load(static.path / "denoiser.fp32.onnx").graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [4, 1, 16, 16]
    settings = SamplingSettings("ddim", resolve("ddim", {}), 3)
    states = [
        open_sampling(each, backends.open_backend("ort", each), settings).draw(range(6), lambda row, x: None)
        for each in (static, bundle)
    ]
    assert np.abs(states[0] - states[1]).max() < 1e-4


def test_another_image_size_of_the_same_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    large = write(tiny_checkpoint, tmp_path / "large", STATIC, image_size="32")
    assert large.manifest.data.shape == (1, 32, 32)


def test_large_weights_lie_beside_the_graph(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_target, "EXTERNAL_DATA_BYTES", 1000)
    external = write(tiny_checkpoint, tmp_path / "external", STATIC)
    files = external.manifest.artifacts[0].files
    assert [entry.path for entry in files] == ["denoiser.fp32.onnx", "denoiser.fp32.onnx.data"]
    assert (external.path / "denoiser.fp32.onnx").stat().st_size < 100_000
    (external.path / "denoiser.fp32.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"lacks 'denoiser\.fp32\.onnx\.data'"):
        backends.open_backend("ort", external)


def test_a_wrong_target_fails_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind of fault that a converter makes: here the norm's epsilon, lost."""

    class Wrong(deploy.ImageNorm):
        def __init__(self, norm: torch.nn.GroupNorm) -> None:
            super().__init__(norm)
            self.eps = 0.1

    monkeypatch.setattr(deploy, "ImageNorm", Wrong)
    with pytest.raises(ParityError, match=r"relative L2 .* from eager PyTorch, allowed .*no bundle was written"):
        write(tiny_checkpoint, tmp_path / "wrong", STATIC)
    assert not list(tmp_path.iterdir())


def test_an_existing_bundle_is_replaced_only_by_its_own_kind(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Which is the same checkpoint, the same weights and the same settings."""
    out = tmp_path / "bundle"
    write(tiny_checkpoint, out, batch=(3, 3))
    held = write(tiny_checkpoint, out, batch=(2, 2))
    assert held.manifest.artifacts[0].batch == (2, 2)
    source = held.manifest.model.checkpoint
    assert writer.check_replaceable(out, source) is None
    for change, words in (
        ({"sha256": "f" * 64}, rf"a bundle of {source['file']} \({source['sha256'][:12]}…\), ema weights"),
        ({"weights": "online"}, r"ema weights"), ({"settings": {"image_size": "32"}}, r"ema weights"),
    ):  # fmt: skip
        other: manifests.CheckpointEntryEntry = source | change  # type: ignore[assignment, operator]
        with pytest.raises(BundleError, match=rf"is .*{words}: add --force to replace it, or use another -o"):
            writer.check_replaceable(out, other)
        assert writer.check_replaceable(out, other, force=True) is not None
    (out / "notes.txt").touch()
    for force in (False, True):
        with pytest.raises(BundleError, match=r"holds 'notes.txt', which is not of the bundle: move it away"):
            writer.check_replaceable(out, source, force)
    (out / "notes.txt").unlink()
    (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes()[:-9])
    with pytest.raises(BundleError, match=r"is a bundle that cannot be read .*: add --force to replace it"):
        writer.check_replaceable(out, source)
    assert writer.check_replaceable(out, source, force=True) is not None


def test_a_quick_proof_gives_way_to_a_full_one_and_not_the_reverse(
    bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    denoiser = published.load(tiny_checkpoint)
    written = writer.write_bundle(denoiser, tiny_checkpoint, "onnx", tmp_path / "q", STATIC, QUICK_PROOF, silent)
    assert [result.name for result in written.results] == [
        "call, batch 1, t = 999", "call, batch 1, t = 500", "call, batch 1, t = 0", "call, batch 1, t = 1",
        "2-step ddim trajectory, batch 3",
    ]  # fmt: skip
    quick, full = (read.manifest.artifacts[0].parity for read in (bundles.read(tmp_path / "q"), bundle))
    assert (quick["quick"], quick["checks"], quick["passed"]) == (True, 5, True)
    assert (full["quick"], full["checks"], full["passed"]) == (False, 16, True)
    source = bundle.manifest.model.checkpoint
    for is_quick in (False, True):
        assert writer.check_replaceable(tmp_path / "q", source, quick=is_quick) is None
    with pytest.raises(BundleError, match="a bundle of the same weights with the full proof: add --force"):
        writer.check_replaceable(bundle.path, source, quick=True)
    assert writer.check_replaceable(bundle.path, source, force=True, quick=True) is not None


def test_a_folder_that_is_not_a_bundle_is_never_replaced(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").touch()
    (tmp_path / "holiday" / "manifest.json").write_text('{"name": "an application of the web"}')
    denoiser, out = published.load(tiny_checkpoint), tmp_path / "holiday"
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        writer.write_bundle(denoiser, tiny_checkpoint, "onnx", out, STATIC, full_proof(3), silent, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]
