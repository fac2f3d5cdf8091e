"""Bundles of class-conditional transformers, of flow processes and of learned variances."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformer_bundles import graph_of, shape_of, write

from dexport.deploy import transformer
from drun.bundle.card import Classes
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.samplers import resolve
from drun.errors import ParityError
from drun.run import parity
from drun.run.opening import choose, open_candidate
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain.published import Denoiser


def session_of(bundle: Bundle) -> Any:
    return onnxruntime.InferenceSession(bundle.path / "denoiser.fp32.onnx", providers=["CPUExecutionProvider"])


def inputs(num_images: int, labels: list[int], t: float) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((num_images, 4, 8, 8)).astype(np.float32)
    return {"x": x, "t": np.full(num_images, t, np.float32), "y": np.resize(labels, num_images)}


@pytest.mark.parametrize("name", ["sit_bundle", "dit_bundle"])
def test_the_graph_is_the_manifests_and_static_but_for_the_batch(name: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    graph = graph_of(bundle)
    dtypes = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    for value, tensor in zip([*graph.input, *graph.output], bundle.manifest.artifacts[0].io, strict=True):
        expected = ["batch" if side == "N" else side for side in tensor.shape]
        assert (value.name, shape_of(value)) == (tensor.name, expected)
        assert value.type.tensor_type.elem_type == dtypes[tensor.dtype]
    shapes = [shape_of(value) for value in graph.value_info]
    assert len(shapes) > 50
    assert not [shape for shape in shapes if any(isinstance(side, str) for side in shape[1:])]
    operators = {node.op_type for node in graph.node}
    assert not operators & {"Shape", "Slice", "Expand", "Where", "Range", "Cast", "If"}


def test_every_layer_norm_has_the_scale_that_tensorrt_reads(dit_bundle: Bundle) -> None:
    graph = graph_of(dit_bundle)
    held = {tensor.name for tensor in graph.initializer}
    norms = [list(node.input) for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 2 * (2 + 2) + 1  # of 2 blocks, their queries and keys; and of the head
    assert all(len(names) >= 2 and set(names[1:]) <= held for names in norms)


def test_the_unused_half_of_a_published_head_is_left_out(
    sit_bundle: Bundle, sit_checkpoint: Path, build_small: Any
) -> None:
    """Against the network with all its rows, of which SiT's own code drops the second half of the output."""
    whole = build_small("DiT")
    whole.load_state_dict(torch.load(sit_checkpoint))
    feed = inputs(3, [0, 7, 10], 0.3)
    with torch.no_grad():
        expected = whole(*(torch.from_numpy(array) for array in feed.values()))[:, :4].numpy()
    got = session_of(sit_bundle).run(None, feed)[0]
    assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)
    graph = graph_of(sit_bundle)
    num_weights = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert num_weights <= sit_bundle.manifest.model.parameters + 128 + 32 + 10  # sinusoid, ones of the norms, scalars
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    assert sit_bundle.manifest.model.parameters == parameters - 4 * 2 * 2 * (32 + 1)


@pytest.mark.parametrize("num_images", [1, 2, 8])
@pytest.mark.parametrize("t", [0.0, 500.0, 999.0])
def test_single_calls_agree_with_eager_to_1e_5(dit_bundle: Bundle, dit: Denoiser, num_images: int, t: float) -> None:
    feed = inputs(num_images, [3, 10, 0], t)
    with torch.no_grad():
        expected = dit.network(*(torch.from_numpy(array) for array in feed.values())).numpy()
    got = session_of(dit_bundle).run(None, feed)[0]
    for half in (np.s_[:, :4], np.s_[:, 4:]):
        assert np.linalg.norm(got[half] - expected[half]) <= 1e-5 * np.linalg.norm(expected[half])


def test_a_static_batch_serves_guided_images(sit: Denoiser, sit_bundle: Bundle, tmp_path: Path) -> None:
    checkpoint = tmp_path / "SiT.pt"
    checkpoint.touch()
    static = write(sit, checkpoint, tmp_path / "static", batch=(4, 4))
    assert [shape_of(value) for value in graph_of(static).input] == [[4, 4, 8, 8], [4], [4]]
    settings = SamplingSettings("euler_maruyama", resolve("euler_maruyama", {"form": "sit"}), 3, cfg=2.0)
    states = []
    for each in (static, sit_bundle):
        with open_candidate(each, choose(each, "ort")) as opened:
            states.append(Sampling(each.manifest.card, opened, settings).draw(range(3)))
    assert np.abs(states[0] - states[1]).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "change", "fails"),
    [
        ("sit_bundle", {"guidance": {"channels": None}}, ["4-step euler_maruyama trajectory, batch 1"]),
        ("dit_bundle", {"guidance": {"channels": None}}, ["4-step ddpm trajectory, batch 1"]),
        ("sit_bundle", {"classes": Classes(10, 0)}, ["4-step euler_maruyama trajectory, batch 1"]),
        (
            "sit_bundle",
            {"process": FlowProcess("linear", noise_time=1).to_dict()},
            ["5-step ddim trajectory, batch 3", "4-step euler_maruyama trajectory, batch 1"],
        ),
    ],
)
def test_a_wrong_manifest_fails_parity(
    request: pytest.FixtureRequest, name: str, change: dict[str, Any], fails: list[str]
) -> None:
    bundle = request.getfixturevalue(name)
    wrong = Bundle(bundle.path, replace(bundle.manifest, **change))
    with open_candidate(wrong, choose(wrong, "ort")) as opened:
        results = parity.check(wrong, opened, silent)
    assert [result.name for result in results if not result.passed] == fails


def test_a_wrong_attention_fails_and_leaves_nothing(
    sit: Denoiser, sit_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = lambda _, q, k, v: torch.softmax(q @ k.transpose(2, 3), dim=3) @ v  # noqa: E731, without the scale
    monkeypatch.setattr(transformer.Attend, "forward", wrong)
    with pytest.raises(ParityError, match=r"relative L2 .* from eager PyTorch, allowed .*nothing was written"):
        write(sit, sit_checkpoint, tmp_path / "wrong", batch=(2, 2))
    assert not list(tmp_path.iterdir())
