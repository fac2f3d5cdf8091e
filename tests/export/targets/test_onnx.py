"""The ONNX graphs of U-Nets, against eager PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporting import STATIC, export, load_trained

from dexport.deploy import unet
from dexport.lint import FORBIDDEN
from dexport.targets import onnx as onnx_target
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.samplers import resolve, step_table
from drun.errors import BundleError, ParityError
from drun.run import images, parity
from drun.run.opening import choose, open_candidate
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain import published


def write(
    checkpoint: Path, out: Path, batch: tuple[int, int] = (1, 8), weights: str = "ema", **settings: str
) -> Bundle:
    export(load_trained(checkpoint, weights, **settings), out, "onnx", batch)
    return bundles.read(out)


def draw(bundle: Bundle, settings: SamplingSettings, indices: Sequence[int]) -> np.ndarray:
    with open_candidate(bundle, choose(bundle, "ort")) as opened:
        return Sampling(bundle.manifest.card, opened, settings).draw(indices)


@torch.no_grad()
def assert_network(bundle: Bundle, checkpoint: Path, x: np.ndarray, weights: str = "ema") -> None:
    """The bundle's graph computes what these weights compute in PyTorch."""
    t = np.full(len(x), 500.0, np.float32)
    session = onnxruntime.InferenceSession(bundle.path / "denoiser.fp32.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x, "t": t})
    expected = published.load(checkpoint, weights).network(torch.from_numpy(x), torch.from_numpy(t)).numpy()
    assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def bundle(free_bundle: Path) -> Bundle:
    return bundles.read(free_bundle)


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
    got = draw(bundle, SamplingSettings("ddpm", options, 250, seed=5), [0, 1])
    comparison = parity.compare("250 steps", expected, got, 1e-3)
    assert comparison.passed, comparison
    assert images.to_uint8(expected).std() > 0


@pytest.mark.slow
def test_online_weights_differ_from_the_average(onnx_bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    online, average = write(tiny_checkpoint, tmp_path / "online", STATIC, "online"), bundles.read(onnx_bundle)
    assert online.manifest.model.checkpoint["weights"] == "online"
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)).numpy()
    assert_network(online, tiny_checkpoint, x, "online")
    assert_network(average, tiny_checkpoint, x, "ema")
    with pytest.raises(AssertionError):
        assert_network(online, tiny_checkpoint, x, "ema")


@pytest.mark.slow
def test_a_static_batch_serves_any_number_of_images(bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    static = write(tiny_checkpoint, tmp_path / "static", batch=(4, 4))
    graph = onnx.load(static.path / "denoiser.fp32.onnx").graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [4, 1, 16, 16]
    settings = SamplingSettings("ddim", resolve("ddim", {}), 3)
    states = [draw(each, settings, range(6)) for each in (static, bundle)]
    assert np.abs(states[0] - states[1]).max() < 1e-4


@pytest.mark.slow
def test_another_image_size_of_the_same_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    large = write(tiny_checkpoint, tmp_path / "large", STATIC, image_size="32")
    assert large.manifest.data.shape == (1, 32, 32)
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
    assert_network(large, tiny_checkpoint, x)


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
        open_candidate(external, choose(external, "ort"))


def test_a_fault_of_a_converter_fails_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the norm's epsilon, lost."""

    class Wrong(unet.ImageNorm):
        def __init__(self, norm: torch.nn.GroupNorm) -> None:
            super().__init__(norm)
            self.eps = 0.1

    monkeypatch.setattr(unet, "ImageNorm", Wrong)
    with pytest.raises(ParityError, match=r"relative L2 .* from eager PyTorch, allowed .*nothing was written"):
        write(tiny_checkpoint, tmp_path / "wrong", STATIC)
    assert not list(tmp_path.iterdir())
