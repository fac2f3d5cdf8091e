"""Bundles of class-conditional transformers, of flow processes and of learned variances."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporting import export
from torch import nn

from dexport import fixtures
from dexport.deploy import transformer
from dexport.proof import full_proof
from dexport.writer.create import Trained
from drun.bundle import reading as bundles
from drun.bundle.card import Card, Classes, Sampler, StateSpace
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.samplers import resolve
from drun.errors import ParityError
from drun.run import parity
from drun.run.opening import choose, open_candidate
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain import published
from dtrain.published import Denoiser

BATCH = (1, 8)
FLOW = Sampler("euler_maruyama", {"form": "repa"})


def write(denoiser: Denoiser, checkpoint: Path, out: Path, batch: tuple[int, int] = BATCH) -> Bundle:
    export(Trained(denoiser, checkpoint), out, "onnx", batch, full_proof(4))
    return bundles.read(out)


def describe(network: nn.Module, **changes: Any) -> Denoiser:
    """A flow of pixels, unless changed."""
    card = Card(FlowProcess(), "velocity", StateSpace.of(network.state_shape(0)), sampler=FLOW)
    return Denoiser(network, network.config, replace(card, **changes), 1, "ema", ())


@pytest.fixture(scope="module")
def sit(sit_checkpoint: Path) -> Denoiser:
    return published.load(sit_checkpoint, "ema", {"num_heads": "2"})


@pytest.fixture(scope="module")
def sit_bundle(sit: Denoiser, sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(sit, sit_checkpoint, tmp_path_factory.mktemp("bundles") / "sit")


@pytest.fixture(scope="module")
def dit(build_small: Any) -> Denoiser:
    sampler = Sampler("ddpm", {"variance": "learned_range", "clip_x0": False})
    return describe(
        build_small("DiT", qk_norm=True), process=DiscreteProcess(), prediction="noise", variance="learned_range",
        classes=Classes(10, 10), guided_channels=3, sampler=sampler,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dit_bundle(dit: Denoiser, sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(dit, sit_checkpoint, tmp_path_factory.mktemp("bundles") / "dit")


def graph_of(bundle: Bundle) -> Any:
    model = onnx.load(bundle.path / "denoiser.fp32.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model.graph


def session_of(bundle: Bundle) -> Any:
    return onnxruntime.InferenceSession(bundle.path / "denoiser.fp32.onnx", providers=["CPUExecutionProvider"])


def shape_of(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def inputs(num_images: int, labels: list[int], t: float) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((num_images, 4, 8, 8)).astype(np.float32)
    return {"x": x, "t": np.full(num_images, t, np.float32), "y": np.resize(labels, num_images)}


def golden_of(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = dict(np.load(bundle.path / "golden.npz"))
    return arrays, json.loads(str(arrays.pop("spec")))


# ---- the manifest and the graph ------------------------------------------------------------------------------


def test_the_manifest_says_what_the_checkpoint_means(sit_bundle: Bundle, sit: Denoiser) -> None:
    m = sit_bundle.manifest
    assert m.model.name == "SiT"
    assert m.process == {"kind": "flow", "path": "linear", "noise_time": 0, "margin": 0.0}
    assert (m.prediction, m.variance, m.time["kind"]) == ("velocity", None, "flow")
    assert (m.classes, m.guidance) == (Classes(10, 10), {"channels": 3})
    assert (m.data.space, m.data.shape, m.data.latent) == ("latent", (4, 8, 8), sit.card.data.latent)
    assert m.sampler == Sampler("euler_maruyama", {"form": "sit"})
    assert m.decoder is None
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in m.artifacts[0].io] == [
        ("x", "float32", ("N", 4, 8, 8)), ("t", "float32", ("N",)), ("y", "int64", ("N",)),
        ("out", "float32", ("N", 4, 8, 8)),
    ]  # fmt: skip
    assert m.artifacts[0].io[1].meaning == "time, 0 at the noise and 1 at the data"
    assert m.artifacts[0].io[2].meaning == "class, 0 to 9, or 10 for none"


def test_a_learned_variance_doubles_the_output(dit_bundle: Bundle) -> None:
    m = dit_bundle.manifest
    assert (m.variance, m.card.output_shape, m.artifacts[0].io[-1].shape) == (
        "learned_range",
        (8, 8, 8),
        ("N", 8, 8, 8),
    )
    assert m.artifacts[0].io[-1].meaning == "noise, then in as many channels the variance (learned_range)"
    assert (m.time["kind"], m.artifacts[0].io[1].meaning) == ("index", "time index, 999 at the noise and 0 at the data")
    assert shape_of(graph_of(dit_bundle).output[0]) == ["batch", 8, 8, 8]


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


# ---- the golden file -----------------------------------------------------------------------------------------


def test_the_golden_calls_reach_every_kind_of_label_and_both_ends_of_time(
    sit_bundle: Bundle, dit_bundle: Bundle
) -> None:
    for bundle, ends in ((sit_bundle, (0.0, 0.98)), (dit_bundle, (999.0, 1.0))):
        arrays, spec = golden_of(bundle)
        labels = [arrays[f"call{i}.y"] for i in range(len(spec["calls"]))]
        assert {0, 9, 10} <= set(np.concatenate(labels).tolist())
        assert all(len(set(batch.tolist())) == 3 for batch in labels if len(batch) > 1)
        assert {batch.dtype for batch in labels} == {np.dtype(np.int64)}
        assert {len(batch) for batch in labels} == {1, 3}
        assert set(ends) <= set(spec["calls"])
        assert len(set(spec["calls"])) >= 6
        assert min(np.linalg.norm(arrays[f"call{i}.out"]) for i in range(len(labels))) > 0.1


def test_the_golden_file_is_eager_pytorchs(sit_bundle: Bundle, sit: Denoiser) -> None:
    """Bit for bit that of the trained network, not of its deployable copy."""
    arrays, _ = golden_of(sit_bundle)
    x, t, y = (torch.from_numpy(arrays[f"call3.{key}"]) for key in ("x", "t", "y"))
    with torch.no_grad():
        assert torch.equal(sit.network(x, t.expand(len(x)), y), torch.from_numpy(arrays["call3.out"]))


def test_the_long_trajectory_is_the_bundles_own_and_guided(sit_bundle: Bundle, dit_bundle: Bundle) -> None:
    for bundle in (sit_bundle, dit_bundle):
        settings = [SamplingSettings(**each["settings"]) for each in golden_of(bundle)[1]["trajectories"]]
        own = bundle.manifest.sampler
        assert [each.sampler for each in settings] == ["ddim", own.name]
        assert [each.cfg for each in settings] == [1.0, 1.5]
        assert settings[1].num_steps == 4
        assert settings[1].options == resolve(own.name, own.options)


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
    monkeypatch.setattr(transformer, "attend", lambda q, k, v: torch.softmax(q @ k.transpose(2, 3), dim=3) @ v)
    with pytest.raises(ParityError, match=r"relative L2 .* from eager PyTorch, allowed .*nothing was written"):
        write(sit, sit_checkpoint, tmp_path / "wrong", batch=(2, 2))
    assert not list(tmp_path.iterdir())


def test_an_unconditional_network_has_no_labels(build_small: Any, sit_checkpoint: Path, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=0, channels=1)
    bundle = write(describe(network, process=FlowProcess("cosine")), sit_checkpoint, tmp_path / "b", (2, 2))
    assert [tensor.name for tensor in bundle.manifest.artifacts[0].io] == ["x", "t", "out"]
    assert [value.name for value in graph_of(bundle).input] == ["x", "t"]
    assert (bundle.manifest.data.space, bundle.manifest.classes) == ("pixel", None)
    assert bundle.manifest.artifacts[0].io[1].meaning == "time, 1 at the noise and 0 at the data"
    arrays, spec = golden_of(bundle)
    assert not [key for key in arrays if key.endswith(".y")]
    assert {each["settings"]["cfg"] for each in spec["trajectories"]} == {1.0}
    # The first state is at the noise end already.
    assert spec["calls"][::2] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.02])


def golden_calls(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    fixtures.write_golden(path, denoiser, full_proof(2), silent)
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays}


def test_a_network_without_a_null_label_is_not_guided(build_small: Any, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=2, null_class=False)
    golden = golden_calls(describe(network, classes=Classes(2, None)), tmp_path / "golden.npz")
    spec = json.loads(str(golden["spec"]))
    assert {each["settings"]["cfg"] for each in spec["trajectories"]} == {1.0}
    assert set(np.concatenate([golden[key] for key in golden if key.endswith(".y")]).tolist()) == {0, 1}


def test_times_keep_the_margin_of_a_process(build_small: Any, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=0)
    process = FlowProcess("linear", noise_time=0, margin=0.1)
    spec = json.loads(str(golden_calls(describe(network, process=process), tmp_path / "golden.npz")["spec"]))
    assert (min(spec["calls"]), max(spec["calls"])) == pytest.approx((0.1, 0.9))


def test_the_report_counts_every_call(sit: Denoiser, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    heun = replace(sit, card=replace(sit.card, sampler=Sampler("heun")))
    path = tmp_path / "golden.npz"
    fixtures.write_golden(path, heun, full_proof(3), lambda what, done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1]
    assert [done for done, _ in reports] == list(range(1, len(reports) + 1))
    assert len(reports) == 5 + 2 * 3 + 2 * 6  # SiT's Heun corrects every step
