"""What the shapes of a transformer's weights say, and the half of a head that is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from drun.errors import ConfigError
from dtrain.models import build, outline
from dtrain.published.families.transformer.shapes import fold_head, transformer_config

NAMES = ("SiT", "DiT")
WIDTH = {"hidden_size": 24, "depth": 2, "num_heads": 3}
TINY = {"input_size": 6, "size": WIDTH, "channels": 3, "num_classes": 5}

State = dict[str, Tensor]


def on_meta(name: str, **settings: object) -> nn.Module:
    return outline({"name": name, **settings})


def tiny(name: str, **settings: object) -> nn.Module:
    """No weight at its initial value, as many of those are zero."""
    torch.manual_seed(0)
    net = build({"name": name, **TINY, **settings}).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


# ---- folding the head -----------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_size", [2, 3])
def test_folded_head_gives_the_first_channels(patch_size: int) -> None:
    dit = tiny("DiT", patch_size=patch_size)
    sit = tiny("SiT", patch_size=patch_size)
    state = dit.state_dict()
    arguments = torch.randn(2, 3, 6, 6), torch.tensor([0.2, 0.9]), torch.tensor([4, 5])
    for key in ("final_layer.linear.weight", "final_layer.linear.bias"):
        naive = state[key][: len(state[key]) // 2]
        state[key] = fold_head(state[key], patch_size, channels=6, keep=3)
        assert state[key].shape == naive.shape
        assert not torch.allclose(state[key], naive)
    sit.load_state_dict(state)
    torch.testing.assert_close(sit(*arguments), dit(*arguments)[:, :3], rtol=1e-5, atol=1e-5)


def test_folding_copies() -> None:
    bias = torch.arange(8.0)
    folded = fold_head(bias, 2, 2, keep=2)
    assert torch.equal(folded, bias)
    assert folded.data_ptr() != bias.data_ptr()
    assert fold_head(bias, 2, 2, keep=1).tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("patch_size", "channels", "keep", "message"),
    [
        (2, 4, 4, "got 32 rows, expected 16 for 4 channels and patch_size 2"),
        (2, 8, 9, "keep got 9, expected 1 to 8"),
        (2, 8, 0, "keep got 0"),
    ],
)
def test_folding_refuses(patch_size: int, channels: int, keep: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fold_head(torch.zeros(32, 5), patch_size, channels, keep)


# ---- recognition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings",
    [
        *({"input_size": 32, "size": size} for size in ("S", "B", "L", "XL")),
        {"input_size": 16, "size": "S", "patch_size": 4, "channels": 3, "num_classes": 10},
        {"input_size": 28, "size": "S", "num_classes": 0},
        {"input_size": 28, "size": "S", "num_classes": 1, "null_class": False},
        {"input_size": 8, "size": "B", "qk_norm": True},
        {"input_size": 6, "size": WIDTH, "qk_norm": True},
        {"input_size": 6, "size": {"hidden_size": 384, "depth": 12, "num_heads": 12}, "qk_norm": True},
    ],
)
def test_config_follows_from_keys_and_shapes(name: str, settings: dict[str, object]) -> None:
    net = on_meta(name, **settings)
    found = transformer_config(net.state_dict())
    assert found is not None
    assert found.pop("out_channels") == net.out_channels
    assert {"name": name, **found} == net.config
    assert shapes(on_meta(name, **found)) == shapes(net)


def test_unknown_number_of_heads_is_left_open() -> None:
    found = transformer_config(tiny("SiT").state_dict())
    assert found is not None
    assert found["size"] == {**WIDTH, "num_heads": None}
    with pytest.raises(ConfigError, match="num_heads got None"):
        build({"name": "SiT", **{key: value for key, value in found.items() if key != "out_channels"}})


def test_projectors_do_not_matter() -> None:
    state = on_meta("SiT", input_size=32, size="S").state_dict()
    projector = {f"projectors.0.{i}.weight": torch.empty(2048, 384, device="meta") for i in (0, 2, 4)}
    assert transformer_config(state | projector) == transformer_config(state)


def reshaped(key: str, *shape: int) -> Callable[[State], State]:
    return lambda state: state | {key: torch.empty(shape, device="meta")}


@pytest.mark.parametrize(
    "broken",
    [
        lambda state: {},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        *(lambda state, key=key: {k: v for k, v in state.items() if k != key} for key in (
            "pos_embed", "t_embedder.mlp.2.weight", "blocks.0.adaLN_modulation.1.weight", "final_layer.linear.weight",
        )),
        reshaped("pos_embed", 1, 255, 384),
        reshaped("pos_embed", 1, 256, 768),
        reshaped("pos_embed", 256, 384),
        reshaped("x_embedder.proj.weight", 384, 16),
        reshaped("final_layer.linear.weight", 16, 768),
        reshaped("final_layer.linear.weight", 18, 384),
        reshaped("blocks.0.attn.qkv.weight", 1152, 768),
    ],
)  # fmt: skip
def test_other_states_are_not_recognised(broken: Callable[[State], State]) -> None:
    state = on_meta("SiT", input_size=32, size="S").state_dict()
    assert transformer_config(state) is not None
    assert transformer_config(broken(state)) is None


def test_other_nets_are_not_recognised() -> None:
    assert transformer_config(on_meta("TwoResUNet", dim=8).state_dict()) is None
    vit = {"patch_size": 2, "channels": 1, "num_classes": 2, "hidden_size": 8, "depth": 1, "num_heads": 2}
    assert transformer_config(on_meta("ViT", image_size=4, **vit).state_dict()) is None
