"""The vision transformer against a hand-written key table and an independent reference of loops and products."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from drun.errors import ConfigError
from dtrain.models import available, build

TINY = {
    "image_size": 6, "patch_size": 2, "channels": 3, "num_classes": 5, "hidden_size": 24, "depth": 2, "num_heads": 3,
}  # fmt: skip


def tiny(**settings: int) -> nn.Module:
    """With norms that are not the identity and biases that are not zero."""
    torch.manual_seed(0)
    net = build({"name": "ViT", **TINY, **settings}).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


# ---- building -------------------------------------------------------------------------------------------


def test_keys_and_shapes() -> None:
    layers: dict[str, tuple[int, ...]] = {"x_embedder.proj": (24, 3, 2, 2)}
    for i in (0, 1):
        layers |= {
            f"blocks.{i}.norm1": (24,), f"blocks.{i}.attn.qkv": (72, 24), f"blocks.{i}.attn.proj": (24, 24),
            f"blocks.{i}.norm2": (24,), f"blocks.{i}.mlp.fc1": (96, 24), f"blocks.{i}.mlp.fc2": (24, 96),
        }  # fmt: skip
    layers |= {"norm": (24,), "head": (5, 24)}
    expected: dict[str, tuple[int, ...]] = {"pos_embed": (1, 9, 24)}
    for key, shape in layers.items():
        expected |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]}
    net = tiny()
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == expected
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_attributes_and_config_rebuild_the_net() -> None:
    net = tiny()
    assert "ViT" in available()
    assert (net.num_tokens, net.hidden_size, net.predicts) == (9, 24, "class")
    assert net.config == {"name": "ViT", **TINY}
    again, x = build(net.config), torch.randn(2, 3, 6, 6)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), net(x))


def test_without_classes_it_gives_tokens_alone() -> None:
    net = tiny(num_classes=0)
    x = torch.randn(2, 3, 6, 6)
    assert net.classes is None
    assert not any(key.startswith("head") for key in net.state_dict())
    assert torch.equal(net(x), net.tokens(x).mean(dim=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 7}, "got side 7 and patch_size 2, expected a multiple of patch_size"),
        ({"num_heads": 5}, "got 24 with 5 heads, expected a multiple of num_heads"),
        ({"depth": 0}, "depth got 0, expected a whole number above 0"),
        ({"num_classes": -1}, "num_classes got -1, expected 0 or more"),
    ],
)
def test_build_refuses(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"name": "ViT", **TINY, **settings})


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 1, 6, 6), (3, 6, 6)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    net = tiny()
    for call in (net, net.tokens):
        with pytest.raises(ConfigError, match=r"the input does not fit ViT: got \(.*expected \(N, 3, 6, 6\)"):
            call(torch.zeros(shape))


def test_initial_weights_have_a_sane_spread() -> None:
    torch.manual_seed(0)
    net = build({"name": "ViT", **TINY, "image_size": 32, "hidden_size": 96, "num_classes": 100})
    state = net.state_dict()
    for key in ("pos_embed", "head.weight"):
        assert float(state[key].std()) == pytest.approx(0.02, rel=0.05), key
    for key, fan in (("x_embedder.proj", 12 + 96), ("blocks.1.attn.qkv", 96 + 288), ("blocks.1.mlp.fc2", 384 + 96)):
        assert float(state[f"{key}.weight"].std()) == pytest.approx(math.sqrt(2 / fan), rel=0.05), key
        assert state[f"{key}.bias"].abs().max() == 0, key
    assert net(torch.randn(4, 3, 32, 32)).abs().max() < 1.5  # almost no class is preferred yet


# ---- forward --------------------------------------------------------------------------------------------


def test_shapes_and_every_parameter_gets_a_gradient() -> None:
    net, x = tiny(), torch.randn(2, 3, 6, 6)
    logits = net(x)
    assert logits.shape == (2, 5)
    assert net.tokens(x).shape == (2, 9, 24)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_learns_what_tells_two_classes_apart() -> None:
    torch.manual_seed(0)
    net = build({"name": "ViT", **TINY, "num_classes": 2})
    labels = torch.arange(16) % 2
    x = 0.1 * torch.randn(16, 3, 6, 6)
    x[labels == 1, :, :2] += 1  # a bright top; without positions the place would not matter
    x[labels == 0, :, 4:] += 1
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def norm(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def linear(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]


def attention(state: dict[str, Tensor], key: str, x: Tensor, num_heads: int) -> Tensor:
    hidden, heads = x.shape[1], []
    dim, qkv = hidden // num_heads, linear(state, f"{key}.qkv", x)
    for head in range(num_heads):
        q, k, v = (qkv[:, i * hidden + head * dim :][:, :dim] for i in range(3))
        weights = torch.exp(q @ k.T / math.sqrt(dim))
        heads.append(weights / weights.sum(1, keepdim=True) @ v)
    return linear(state, f"{key}.proj", torch.cat(heads, 1))


def tokens_reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """One image (3, 6, 6) -> (9, 24)."""
    weight, tokens = state["x_embedder.proj.weight"], []
    for row in range(3):
        for column in range(3):
            pixels = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            token = (weight * pixels).sum((1, 2, 3)) + state["x_embedder.proj.bias"]
            tokens.append(token + state["pos_embed"][0, 3 * row + column])
    h = torch.stack(tokens)
    for i in (0, 1):
        h = h + attention(state, f"blocks.{i}.attn", norm(state, f"blocks.{i}.norm1", h), num_heads=3)
        u = linear(state, f"blocks.{i}.mlp.fc1", norm(state, f"blocks.{i}.norm2", h))
        u = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
        h = h + linear(state, f"blocks.{i}.mlp.fc2", u)
    return norm(state, "norm", h)


def test_whole_net_is_the_reference() -> None:
    net, x = tiny().double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    state = net.state_dict()
    tokens = torch.stack([tokens_reference(state, image) for image in x])
    logits = linear(state, "head", tokens.mean(1))
    assert torch.allclose(net.tokens(x), tokens, atol=1e-10)
    assert torch.allclose(net(x), logits, atol=1e-10)
    assert tokens.std() > 0.1
    assert logits.std() > 0.1
