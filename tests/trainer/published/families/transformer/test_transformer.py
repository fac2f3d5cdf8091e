"""Every layout of DiT's, SiT's and REPA's checkpoints, of tiny real networks, computes what its source computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from drun.bundle.card import Classes
from drun.errors import CheckpointError, ConfigError
from dtrain import models, published

WIDTH = {"hidden_size": 24, "depth": 3, "num_heads": 3}
HEADS = {"num_heads": "3"}
SIT, REPA = ({"process": name, **HEADS} for name in ("sit", "repa"))


def tiny(name: str = "SiT", seed: int = 0, **settings: Any) -> nn.Module:
    """A network whose weights, positions included, are nowhere their initial ones."""
    torch.manual_seed(seed)
    network = models.build({"name": name, "input_size": 6, "size": WIDTH, "num_classes": 5} | settings).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@torch.no_grad()
def output(network: nn.Module) -> Tensor:
    """(3, C, S, S) at three times, of three labels, the null label among them."""
    torch.manual_seed(2)
    x = torch.randn(3, network.channels, network.input_size, network.input_size)
    count = network.config["num_classes"] + network.config["null_class"]
    labels = (torch.arange(count - 3, count),) if network.config["num_classes"] else ()
    return network(x, torch.tensor([0.0, 0.3, 1.0]), *labels)


def assert_same(found: nn.Module, source: nn.Module) -> None:
    assert {"training": found.training, "dtype": found.pos_embed.dtype} == {"training": False, "dtype": torch.float32}
    assert torch.equal(output(found), output(source))
    assert output(source).abs().mean() > 0.1


def projectors(*dims: int, hidden: int = 24) -> dict[str, Tensor]:
    """As REPA's: three linear maps for each teacher, at 0, 2 and 4."""
    sizes = {0: (16, hidden), 2: (16, 16)}
    shapes = [(f"{j}.{i}", size) for j, dim in enumerate(dims) for i, size in (sizes | {4: (dim, 16)}).items()]
    weights = {f"projectors.{name}.weight": torch.ones(*size) for name, size in shapes}
    return weights | {f"projectors.{name}.bias": torch.ones(size[0]) for name, size in shapes}


# ---- what a state dict is of ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "process"), [("DiT", "dit"), ("SiT", "dit"), ("SiT", "sit"), ("SiT", "repa")])
@pytest.mark.parametrize(
    "settings",
    [
        {}, {"patch_size": 3, "channels": 3}, {"patch_size": 1, "input_size": 4}, {"input_size": 12, "patch_size": 6},
        {"num_classes": 0}, {"num_classes": 31, "channels": 1}, {"qk_norm": True},
        {"size": {"hidden_size": 32, "depth": 1, "num_heads": 3 - 1}},
    ],
)  # fmt: skip
def test_bare_state_dicts(tmp_path: Path, name: str, process: str, settings: dict[str, Any]) -> None:
    source = tiny(name, **settings)
    heads = str(source.config["size"]["num_heads"])
    found = published.load(
        save(tmp_path / "net.pt", source.state_dict()), settings={"process": process, "num_heads": heads}
    )
    assert_same(found.network, source)
    assert found.config == source.config
    assert models.build(found.config).state_dict().keys() == source.state_dict().keys()
    assert found.card.data.shape == (source.channels, source.input_size, source.input_size)
    count = source.config["num_classes"]
    assert found.card.classes == (Classes(count, count) if count else None)
    assert (found.card.data.latent is None) == (source.channels != 4)
    assert (found.step, found.weights, found.reasons[0]) == (0, "online", "a bare state dict")


@pytest.mark.parametrize("process", ["sit", "repa"])
@pytest.mark.parametrize("settings", [{}, {"patch_size": 3, "channels": 3}, {"patch_size": 1, "input_size": 4}])
def test_a_doubled_head_that_predicts_no_variance_is_folded(
    tmp_path: Path, process: str, settings: dict[str, Any]
) -> None:
    source = tiny("DiT", **settings)
    path = save(tmp_path / "net.pt", source.state_dict())
    found = published.load(path, settings={"process": process, **HEADS})
    assert (found.config["name"], found.card.variance) == ("SiT", None)
    assert found.network.final_layer.linear.out_features == source.final_layer.linear.out_features // 2
    torch.testing.assert_close(output(found.network), output(source)[:, : source.channels], rtol=1e-5, atol=1e-6)
    assert "the half of its head that predicts nothing is left out" in found.reasons


def test_a_published_size_says_its_heads_and_the_published_name_its_convention(tmp_path: Path) -> None:
    source = tiny("DiT", input_size=32, size="S", num_classes=1000)
    found = published.load(save(tmp_path / "SiT-S-2-256x256.pt", source.state_dict()))
    assert found.config["size"] == "S"
    assert sum(parameter.numel() for parameter in found.network.parameters()) == 32_957_200
    torch.testing.assert_close(output(found.network), output(source)[:, :4], rtol=1e-4, atol=1e-4)
    assert (found.card.data.shape, found.card.classes, found.weights) == ((4, 32, 32), Classes(1000, 1000), "ema")
    assert found.reasons[0] == "a bare state dict, of averaged weights by its file name"


def test_positions_are_the_checkpoints_own(tmp_path: Path) -> None:
    source = tiny()
    found = published.load(save(tmp_path / "net.pt", source.state_dict()), settings=SIT)
    assert torch.equal(found.network.pos_embed, source.pos_embed)
    assert not found.network.pos_embed.requires_grad


def test_normed_queries_say_the_heads(tmp_path: Path) -> None:
    source = tiny(qk_norm=True)
    path = save(tmp_path / "a.pt", source.state_dict())
    assert_same(published.load(path, settings={"process": "sit"}).network, source)
    with pytest.raises(CheckpointError, match=r"'blocks\.0\.attn\.q_norm\.weight' got \(8,\), expected \(4,\)"):
        published.load(path, settings={"process": "sit", "num_heads": "6"})


# ---- how it is packed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2])
def test_repas_early_layout(tmp_path: Path, depth: int) -> None:
    source = tiny()
    legacy = {}
    for key, value in source.state_dict().items():
        name, index, rest = [*key.split(".", 2), "", ""][:3]
        late = name == "blocks" and int(index) >= depth
        legacy[f"decoder_blocks.{int(index) - depth}.{rest}" if late else key] = value
    found = published.load(save(tmp_path / "net.pt", legacy | projectors(7)), settings=HEADS)
    assert_same(found.network, source)
    assert f"decoder_blocks 0 to {2 - depth} are blocks {depth} to 2: REPA's early layout" in found.reasons


def test_projectors_are_dropped_and_said(tmp_path: Path) -> None:
    source = tiny()
    path = save(tmp_path / "net.pt", source.state_dict() | projectors(7, 9))
    found = published.load(path, settings=HEADS)
    assert_same(found.network, source)
    assert "projectors to 2 teachers of 7, 9 dimensions dropped: they are for training" in found.reasons
    convolution = {"projectors.0.conv.weight": torch.ones(5, 24, 3, 3), "projectors.0.conv.bias": torch.ones(5)}
    found = published.load(save(path, source.state_dict() | convolution), settings=HEADS)
    assert "projectors to a teacher of 5 dimensions dropped: they are for training" in found.reasons


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_prefixes(tmp_path: Path, prefix: str) -> None:
    source = tiny()
    state = source.state_dict() | projectors(7)
    path = save(tmp_path / "net.pt", {prefix + key: value for key, value in state.items()})
    found = published.load(path, settings=HEADS)
    assert_same(found.network, source)
    assert "as REPA trains it" in found.reasons[2]


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    source = tiny("DiT").half().float()
    save_file({key: value.half() for key, value in source.state_dict().items()}, tmp_path / "DiT-net.safetensors")
    assert_same(published.load(tmp_path / "DiT-net.safetensors", settings=HEADS).network, source)


# ---- what cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [12, 48, 15])
def test_a_head_of_other_channels_is_refused(tmp_path: Path, row: int) -> None:
    state = tiny().state_dict() | {"final_layer.linear.weight": torch.zeros(row, 24)}
    with pytest.raises(CheckpointError, match=rf"a head of {row} rows, expected 16 \(4 channels .* 4 pixels .* or 32"):
        published.load(save(tmp_path / "a.pt", state), settings=SIT)


def test_repas_broken_sit_s_is_named(tmp_path: Path) -> None:
    wide = {"final_layer.linear.weight": (16, 768), "final_layer.adaLN_modulation.1.weight": (1536, 768)}
    state = tiny().state_dict() | {key: torch.zeros(*shape) for key, shape in wide.items()}
    with pytest.raises(CheckpointError, match=r"final layer of width 768 on blocks of width 24, as REPA's SiT-S"):
        published.load(save(tmp_path / "a.pt", state), settings=REPA)


def test_heads_that_no_shape_says_are_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", tiny().state_dict())
    with pytest.raises(ConfigError, match=r"has 3 blocks of width 24, .* not known: add --set num_heads=N"):
        published.load(path, settings={"process": "sit"})
    with pytest.raises(ConfigError, match="hidden_size got 24 with 5 heads"):
        published.load(path, settings={"process": "sit", "num_heads": "5"})
    with pytest.raises(ConfigError, match="--set num_heads got 'many', expected a whole number"):
        published.load(path, settings={"process": "sit", "num_heads": "many"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_layer.linear.bias": torch.zeros(7)}, r"a SiT, does not fit .* 'final_layer\.linear\.bias' got \(7,\)"),
        ({"extra.weight": torch.zeros(7)}, r"'extra\.weight' got \(7,\), expected nothing"),
        ({"blocks.2.mlp.fc1.weight": torch.zeros(7)}, r"'blocks\.2\.mlp\.fc1\.weight' got \(7,\), expected \(96, 24\)"),
        ({"pos_embed": torch.zeros(1, 7, 24)}, "holds no network that is known here"),
    ],
)
@pytest.mark.parametrize("name", ["SiT", "DiT"])
def test_weights_that_do_not_fit(tmp_path: Path, name: str, change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        published.load(save(tmp_path / "a.pt", tiny(name).state_dict() | change), settings=SIT)
