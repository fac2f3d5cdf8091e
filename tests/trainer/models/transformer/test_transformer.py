"""SiT and DiT against the published keys, shapes and counts, and an independent reference of loops and products."""

from __future__ import annotations

import io
import logging
import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from drun.errors import ConfigError
from dtrain.models import available, build
from dtrain.models.transformer.embeddings import position_table
from dtrain.models.transformer.sizes import SIZES, Size

NAMES = ("SiT", "DiT")
WIDTH = {"hidden_size": 24, "depth": 2, "num_heads": 3}
TINY = {"input_size": 6, "size": WIDTH, "channels": 3, "num_classes": 5}
CONDITIONS = ({}, {"qk_norm": True}, {"num_classes": 0}, {"null_class": False}, {"patch_size": 3, "channels": 2})


def on_meta(name: str, **settings: object) -> nn.Module:
    with torch.device("meta"):
        return build({"name": name, **settings})


def tiny(name: str, **settings: object) -> nn.Module:
    """No weight at its initial value, as many of those are zero; positions stay as they are."""
    torch.manual_seed(0)
    net = build({"name": name, **TINY, **settings}).eval()
    for parameter in net.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return net


def inputs(net: nn.Module, times: list[float]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images, times and labels, the last label being the largest that there is."""
    torch.manual_seed(1)
    side, num_rows = net.config["input_size"], net.config["num_classes"] + net.config["null_class"]
    labels = None if not net.config["num_classes"] else torch.arange(num_rows - len(times), num_rows)
    return torch.randn(len(times), net.config["channels"], side, side), torch.tensor(times), labels


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


def relative(got: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    return float(((got - expected).norm() / expected.norm()).detach())


# ---- keys, shapes and counts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected", "num_16_rows", "num_32_rows", "num_tensors"),
    [
        ("S", Size(384, 12, 6), 32_957_200, 32_963_360, 132),
        ("B", Size(768, 12, 12), 130_500_112, 130_512_416, 132),
        ("L", Size(1024, 24, 16), 458_086_416, 458_102_816, 252),
        ("XL", Size(1152, 28, 16), 675_111_184, 675_129_632, 292),
    ],
)
def test_parameter_and_tensor_counts_are_the_published(
    size: str, expected: Size, num_16_rows: int, num_32_rows: int, num_tensors: int
) -> None:
    assert SIZES[size] == expected
    for name, num_parameters in (("SiT", num_16_rows), ("DiT", num_32_rows)):
        net = on_meta(name, input_size=32, size=size)
        assert sum(parameter.numel() for parameter in net.parameters()) == num_parameters
        assert len(net.state_dict()) == num_tensors
        assert {(block.attn.num_heads, block.attn.head_dim) for block in net.blocks} == {
            (expected.num_heads, expected.hidden_size // expected.num_heads)
        }


def table(h: int, depth: int, tokens: int, patch: int, channels: int, rows: int, labels: int) -> dict[str, tuple]:
    """The published keys in their order."""
    linear = {"t_embedder.mlp.0": (h, 256), "t_embedder.mlp.2": (h, h)}
    for i in range(depth):
        linear |= {
            f"blocks.{i}.attn.qkv": (3 * h, h),
            f"blocks.{i}.attn.proj": (h, h),
            f"blocks.{i}.mlp.fc1": (4 * h, h),
            f"blocks.{i}.mlp.fc2": (h, 4 * h),
            f"blocks.{i}.adaLN_modulation.1": (6 * h, h),
        }
    linear |= {"final_layer.linear": (rows, h), "final_layer.adaLN_modulation.1": (2 * h, h)}
    keys: dict[str, tuple] = {"pos_embed": (1, tokens, h)}
    for key, shape in {"x_embedder.proj": (h, channels, patch, patch), **linear}.items():
        keys |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]}
        if labels and key == "t_embedder.mlp.2":
            keys["y_embedder.embedding_table.weight"] = (labels, h)
    return keys


def test_keys_and_shapes_are_the_published() -> None:
    xl = shapes(on_meta("SiT", input_size=32, size="XL"))
    assert list(xl.items()) == list(table(1152, 28, 256, 2, 4, 16, 1001).items())
    dit = shapes(on_meta("DiT", input_size=64, size="S", patch_size=4))
    assert list(dit.items()) == list(table(384, 12, 256, 4, 4, 128, 1001).items())
    small = {"input_size": 6, "size": WIDTH, "channels": 3}
    assert shapes(on_meta("SiT", **small, num_classes=5, null_class=False)) == table(24, 2, 9, 2, 3, 12, 5)
    assert shapes(on_meta("SiT", **small, num_classes=0)) == table(24, 2, 9, 2, 3, 12, 0)


def test_qk_norm_adds_affine_norms_of_a_head() -> None:
    plain, normed = shapes(tiny("SiT")), shapes(tiny("SiT", qk_norm=True))
    added = {key: shape for key, shape in normed.items() if key not in plain}
    names = [f"blocks.{i}.attn.{which}_norm.{kind}" for i in (0, 1) for which in "qk" for kind in ("weight", "bias")]
    assert added == dict.fromkeys(names, (8,))
    attention = tiny("SiT", qk_norm=True).blocks[0].attn
    assert attention.q_norm.eps == attention.k_norm.eps == 1e-5


def test_norms_without_weights_have_the_published_eps() -> None:
    norms = [module for module in tiny("SiT").modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 1
    assert {(module.eps, module.elementwise_affine) for module in norms} == {(1e-6, False)}


def test_positions_are_saved_but_not_trained() -> None:
    net = tiny("SiT")
    assert isinstance(net.pos_embed, nn.Parameter)
    assert [key for key, value in net.named_parameters() if not value.requires_grad] == ["pos_embed"]


# ---- building -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", CONDITIONS)
def test_config_rebuilds_the_net(name: str, settings: dict[str, object]) -> None:
    net = tiny(name, **settings)
    again = build(net.config).eval()
    again.load_state_dict(net.state_dict())
    arguments = inputs(net, [0.25, 0.75])
    assert net.config["name"] == name
    assert torch.equal(again(*arguments), net(*arguments))


def test_attributes() -> None:
    assert set(NAMES) <= set(available())
    sit, dit = on_meta("SiT", input_size=32, size="S"), on_meta("DiT", input_size=16, size="S", patch_size=4)
    assert (sit.num_tokens, sit.hidden_size, sit.null_label, sit.out_channels) == (256, 384, 1000, 4)
    assert (dit.num_tokens, dit.hidden_size, dit.null_label, dit.out_channels) == (16, 384, 1000, 8)
    assert len(sit.blocks) == 12
    assert sit.predicts == dit.predicts == "image"
    assert tiny("SiT", num_classes=0).null_label is None
    assert tiny("SiT", null_class=False).null_label is None
    assert tiny("SiT").null_label == 5


def test_unets_predict_images_too() -> None:
    assert {available()[name].predicts for name in ("OneResUNet", "TwoResUNet", "AttentionUNet")} == {"image"}


def test_a_size_has_its_name_in_the_config() -> None:
    same = {"hidden_size": 384, "depth": 12, "num_heads": 6}
    assert on_meta("SiT", input_size=4, size=same).config["size"] == "S"
    assert on_meta("SiT", input_size=4, size={**same, "num_heads": 12}).config["size"] == {**same, "num_heads": 12}
    assert on_meta("SiT", input_size=4).config["size"] == "B"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_size": 7}, "got side 7 and patch_size 2, expected a multiple of patch_size"),
        ({"patch_size": 0}, "got side 6 and patch_size 0, expected"),
        ({"size": "M"}, "got 'M', expected one of S, B, L, XL or a mapping of hidden_size, depth, num_heads"),
        ({"size": {"hidden_size": 24, "depth": 2}}, "got {'hidden_size': 24, 'depth': 2}, expected one of"),
        ({"size": {**WIDTH, "num_heads": None}}, "num_heads got None, expected a whole number above 0"),
        ({"size": {**WIDTH, "depth": 0}}, "depth got 0"),
        ({"size": {**WIDTH, "num_heads": 5}}, "got 24 with 5 heads, expected a multiple of num_heads and of 4"),
        ({"size": {**WIDTH, "hidden_size": 30}}, "got 30 with 3 heads, expected a multiple of num_heads and of 4"),
        ({"num_classes": -1}, "got -1, expected 0"),
        ({"heads": 3}, "heads.*its settings are input_size, size, patch_size"),
    ],
)
def test_build_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"name": "SiT", **TINY, **settings})


def test_initial_net_gives_zero_and_its_blocks_are_the_identity() -> None:
    torch.manual_seed(0)
    net = build({"name": "SiT", "input_size": 16, "size": {"hidden_size": 64, "depth": 2, "num_heads": 4}})
    assert net(torch.randn(2, 4, 16, 16), torch.rand(2), torch.tensor([0, 1000])).abs().max() == 0
    x = torch.randn(2, 64, 64)
    assert torch.equal(net.blocks[1](x, torch.randn(2, 64)), x)
    for key, value in net.named_parameters():
        if "adaLN" in key or key.startswith("final_layer.linear") or key.endswith("bias"):
            assert value.abs().max() == 0, key


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    net = build({"name": "SiT", "input_size": 4, "size": {"hidden_size": 96, "depth": 1, "num_heads": 4}})
    state = net.state_dict()
    normal = ["y_embedder.embedding_table", "t_embedder.mlp.0", "t_embedder.mlp.2"]
    for key in normal:
        assert float(state[f"{key}.weight"].std()) == pytest.approx(0.02, rel=0.05), key
    fans = {"x_embedder.proj": 16 + 96, "blocks.0.attn.qkv": 96 + 288, "blocks.0.attn.proj": 96 + 96,
            "blocks.0.mlp.fc1": 96 + 384, "blocks.0.mlp.fc2": 96 + 384}  # fmt: skip
    for key, fan in fans.items():
        weight, limit = state[f"{key}.weight"], math.sqrt(6 / fan)
        assert 0.97 * limit < float(weight.abs().max()) <= limit, key
        assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.05), key


# ---- forward --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", CONDITIONS)
def test_forward_shape_and_a_single_time_is_for_all(name: str, settings: dict[str, object]) -> None:
    net = tiny(name, **settings)
    x, _, y = inputs(net, [0.3, 0.3])
    both = net(x, torch.tensor([0.3, 0.3]), y)
    assert both.shape == (2, net.out_channels, 6, 6)
    assert net.out_channels == net.config["channels"] * (2 if name == "DiT" else 1)
    assert relative(net(x, torch.tensor([0.3]), y), both) < 1e-5


def test_time_and_label_matter_and_only_to_their_own_image() -> None:
    net = tiny("SiT")
    x = torch.randn(1, 3, 6, 6).expand(3, -1, -1, -1)
    first, later, null = net(x, torch.tensor([0.3, 0.31, 0.3]), torch.tensor([2, 2, 5]))
    assert relative(later, first) > 1e-4
    assert relative(null, first) > 1e-2
    assert relative(net(x[:1], torch.tensor([0.3]), torch.tensor([2]))[0], first) < 1e-5


def test_labels_are_not_dropped_in_training() -> None:
    net = tiny("SiT").train()
    x, t, y = torch.randn(1, 3, 6, 6).expand(64, -1, -1, -1), torch.full((64,), 0.5), torch.ones(64, dtype=torch.int64)
    out = net(x, t, y)
    assert relative(out, out[:1].expand_as(out)) < 1e-5


def test_every_trained_parameter_gets_a_gradient() -> None:
    for name in NAMES:
        net = tiny(name, qk_norm=True)
        net(*inputs(net, [0.5, 0.6])).square().mean().backward()
        without = [key for key, parameter in net.named_parameters() if parameter.grad is None]
        assert without == ["pos_embed"], name
        assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters() if parameter.requires_grad), name


@pytest.mark.parametrize(
    ("settings", "shape", "t", "y", "message"),
    [
        ({}, (2, 3, 6, 8), (2,), (2,), r"got \(2, 3, 6, 8\), expected \(N, 3, 6, 6\)"),
        ({}, (2, 4, 6, 6), (2,), (2,), r"got \(2, 4, 6, 6\), expected \(N, 3, 6, 6\)"),
        ({}, (3, 6, 6), (2,), (2,), r"got \(3, 6, 6\), expected \(N, 3, 6, 6\)"),
        ({}, (2, 3, 6, 6), (2, 1), (2,), r"got \(2, 1\), expected \(N,\)"),
        ({}, (2, 3, 6, 6), (2,), None, r"needs labels: got None, expected \(N,\) int64; 5 is the null label"),
        ({}, (2, 3, 6, 6), (2,), (2, 5), r"needs labels: got shape \(2, 5\)"),
        ({"null_class": False}, (2, 3, 6, 6), (2,), None, "got None.*it has no null label"),
        ({"num_classes": 0}, (2, 3, 6, 6), (2,), (2,), "SiT has no classes: got labels, expected None"),
    ],
)
def test_forward_refuses(
    settings: dict[str, object], shape: tuple[int, ...], t: tuple[int, ...], y: tuple[int, ...] | None, message: str
) -> None:
    labels = None if y is None else torch.zeros(y, dtype=torch.int64)
    with pytest.raises(ConfigError, match=message):
        tiny("SiT", **settings)(torch.zeros(shape), torch.zeros(t), labels)


# ---- independent references, from the formulas ----------------------------------------------------------


def sinusoid_reference(t: float) -> list[float]:
    angles = [t * math.exp(-math.log(10000) * k / 128) for k in range(128)]
    return [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]


def position_reference(hidden: int, row: int, column: int) -> list[float]:
    """The column first."""
    quarter, out = hidden // 4, []
    for place in (column, row):
        angles = [place / 10000 ** (k / quarter) for k in range(quarter)]
        out += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    return out


def test_sinusoid_is_the_formula() -> None:
    embedder = tiny("SiT").t_embedder
    for times, atol in (([0.0, 0.04, 0.5, 0.501, 1.0], 1e-6), ([0.0, 1.0, 257.0, 999.0], 1e-4)):
        expected = torch.tensor([sinusoid_reference(t) for t in times])
        assert torch.allclose(embedder.sinusoid(torch.tensor(times)), expected, rtol=0, atol=atol)
    assert torch.equal(embedder.sinusoid(torch.tensor([3, 999])), embedder.sinusoid(torch.tensor([3.0, 999.0])))


@pytest.mark.parametrize(("hidden", "side"), [(24, 3), (384, 16)])
def test_positions_are_the_formula_with_the_column_first(hidden: int, side: int) -> None:
    expected = [position_reference(hidden, row, column) for row in range(side) for column in range(side)]
    got = position_table(hidden, side)
    assert got.dtype == torch.float32
    assert torch.allclose(got, torch.tensor([expected]), rtol=0, atol=1e-6)
    # Token 1 is right of token 0: it differs in the first half alone.
    assert (got[0, 1] - got[0, 0])[: hidden // 2].abs().max() > 0.5
    assert torch.equal(got[0, 1, hidden // 2 :], got[0, 0, hidden // 2 :])


State = dict[str, Tensor]


def linear(state: State, key: str, x: Tensor) -> Tensor:
    return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def attention(state: State, key: str, x: Tensor, num_heads: int) -> Tensor:
    """x: (tokens, hidden), head by head."""
    hidden = x.shape[1]
    dim, qkv, heads = hidden // num_heads, linear(state, f"{key}.qkv", x), []
    for head in range(num_heads):
        q, k, v = (qkv[:, i * hidden + head * dim :][:, :dim] for i in range(3))
        if f"{key}.q_norm.weight" in state:
            q = norm(q, 1e-5) * state[f"{key}.q_norm.weight"] + state[f"{key}.q_norm.bias"]
            k = norm(k, 1e-5) * state[f"{key}.k_norm.weight"] + state[f"{key}.k_norm.bias"]
        weights = torch.exp(q @ k.T / math.sqrt(dim))
        heads.append(weights / weights.sum(1, keepdim=True) @ v)
    return linear(state, f"{key}.proj", torch.cat(heads, 1))


def block(state: State, key: str, x: Tensor, c: Tensor, num_heads: int) -> Tensor:
    shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = linear(
        state, f"{key}.adaLN_modulation.1", silu(c)
    ).view(6, -1)
    x = x + gate_msa * attention(state, f"{key}.attn", norm(x, 1e-6) * (1 + scale_msa) + shift_msa, num_heads)
    hidden = gelu_tanh(linear(state, f"{key}.mlp.fc1", norm(x, 1e-6) * (1 + scale_mlp) + shift_mlp))
    return x + gate_mlp * linear(state, f"{key}.mlp.fc2", hidden)


def embed(state: State, x: Tensor) -> Tensor:
    """One image (C, S, S) -> (tokens, hidden), patch by patch along the rows."""
    weight, bias = state["x_embedder.proj.weight"], state["x_embedder.proj.bias"]
    patch, tokens = weight.shape[2], []
    for row in range(x.shape[1] // patch):
        for column in range(x.shape[2] // patch):
            pixels = x[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            place = torch.tensor(position_reference(len(bias), row, column), dtype=x.dtype)
            tokens.append((weight * pixels).sum((1, 2, 3)) + bias + place)
    return torch.stack(tokens)


def image_of(rows: Tensor, side: int, patch: int, channels: int) -> Tensor:
    """(tokens, patch^2 channels) -> (channels, side, side), number by number."""
    image = torch.empty(channels, side, side, dtype=rows.dtype)
    for line in range(side):
        for column in range(side):
            token = (line // patch) * (side // patch) + column // patch
            for channel in range(channels):
                place = (line % patch * patch + column % patch) * channels + channel
                image[channel, line, column] = rows[token, place]
    return image


def sit_reference(state: State, config: dict, x: Tensor, t: float, y: int | None, channels: int) -> Tensor:
    """One image (C, S, S) -> (channels, S, S)."""
    c = torch.tensor(sinusoid_reference(t), dtype=x.dtype)
    c = linear(state, "t_embedder.mlp.2", silu(linear(state, "t_embedder.mlp.0", c)))
    if y is not None:
        c = c + state["y_embedder.embedding_table.weight"][y]
    tokens = embed(state, x)
    for i in range(config["size"]["depth"]):
        tokens = block(state, f"blocks.{i}", tokens, c, config["size"]["num_heads"])
    shift, scale = linear(state, "final_layer.adaLN_modulation.1", silu(c)).view(2, -1)
    rows = linear(state, "final_layer.linear", norm(tokens, 1e-6) * (1 + scale) + shift)
    return image_of(rows, x.shape[1], config["patch_size"], channels)


@pytest.mark.parametrize(("name", "times"), [("SiT", [0.04, 0.73]), ("DiT", [3.0, 42.0])])
@pytest.mark.parametrize("settings", CONDITIONS)
def test_whole_net_is_the_reference(name: str, times: list[float], settings: dict[str, object]) -> None:
    net = tiny(name, **settings).double()
    x, _, y = inputs(net, times)
    x, t = x.double(), torch.tensor(times, dtype=torch.float64)
    labels = [None] * 2 if y is None else y.tolist()
    expected = torch.stack(
        [
            sit_reference(net.state_dict(), net.config, *example, net.out_channels)
            for example in zip(x, times, labels, strict=True)
        ]
    )
    assert relative(net(x, t, y), expected) < 2e-6
    assert expected.std() > 0.1


# ---- precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qk_norm", [False, True])
def test_time_stays_accurate_under_autocast(qk_norm: bool) -> None:
    net = tiny("SiT", qk_norm=qk_norm)
    x, t, y = inputs(net, [0.5, 0.501])  # one number in bfloat16
    seen: list[Tensor] = []
    net.t_embedder.mlp[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = net(x, t, y)
    assert out.dtype == torch.bfloat16
    assert seen[0].dtype == torch.float32
    expected = torch.tensor([sinusoid_reference(float(time)) for time in t])
    assert torch.allclose(seen[0], expected, rtol=0, atol=1e-6)
    assert relative(out.float(), net(x, t, y)) < 0.05


def test_other_precisions_run_with_a_float32_sinusoid() -> None:
    net = tiny("DiT")
    x, t, y = inputs(net, [257.0, 999.0])
    assert net.double()(x.double(), t.double(), y).dtype == torch.float64
    assert net.t_embedder.sinusoid(t.double()).dtype == torch.float32
    net.bfloat16()
    assert net.t_embedder.sinusoid(t).dtype == torch.float32
    assert net(x.bfloat16(), t, y).dtype == torch.bfloat16


# ---- export ---------------------------------------------------------------------------------------------


def onnx_of(net: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    """The exporter warns and logs of its own internals."""
    logger, batch = logging.getLogger("torch.onnx"), torch.export.Dim("batch", min=1, max=8)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                net, example, dynamo=True, opset_version=20, dynamic_shapes=tuple({0: batch} for _ in example),
                input_names=["x", "t", "y"], output_names=["out"], verbose=False,
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    content = io.BytesIO()
    program.save(content)
    return content.getvalue()


def test_onnx_graph_agrees_at_every_batch_size() -> None:
    import onnxruntime

    net = tiny("DiT", qk_norm=True, size={**WIDTH, "depth": 1}).requires_grad_(False)
    session = onnxruntime.InferenceSession(onnx_of(net, inputs(net, [0.0, 1.0])), providers=["CPUExecutionProvider"])
    for size in (1, 2, 5):
        arguments = inputs(net, [20.0 * i for i in range(size)])
        feed = {key: value.numpy() for key, value in zip("xty", arguments, strict=True)}
        assert relative(torch.from_numpy(session.run(None, feed)[0]), net(*arguments)) < 1e-5
