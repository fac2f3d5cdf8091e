"""diffusers' `DiTTransformer2DModel`, the network of its `DiTPipeline`, on the weights of a DiT or SiT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dbench.suites.peers.libraries import Ingredients, Peer
from dbench.suites.peers.libraries.pytorch import both, eager
from drun.errors import ConfigError
from dtrain.models.transformer import MODELS as TRANSFORMERS

#: The largest relative L2 error between the two networks in float32.
EQUAL = 1e-5
#: our key -> its keys of the same tensor
OUTER = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
#: within block i
INNER = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
#: what all blocks share here, and each of them holds there
SHARED = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}


def peers(ingredients: Ingredients) -> list[Peer]:
    """The transformer in both precisions.

    Raises:
        ConfigError: diffusers has no such network, or it does not compute the same.
    """
    network = Wrapped(transformer_of(ingredients.network, ingredients.config))
    _check_equal(ingredients.network, network, ingredients)
    return [Peer(f"diffusers, {precision}", precision, eager(module)) for precision, module in both(network).items()]


class Wrapped(nn.Module):
    """Called as ours: (x, t, y) -> out."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.transformer(x, timestep=t, class_labels=y, return_dict=False)[0]
        return out


def transformer_of(network: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    """diffusers' transformer with the weights of ours. Raises ConfigError if it has no such network."""
    name = config["name"]
    if name not in TRANSFORMERS or not config["num_classes"] or config["qk_norm"]:
        raise ConfigError(f"diffusers has no network like this {name}: it has DiT with classes and without qk_norm")
    from diffusers import DiTTransformer2DModel

    ours: Any = network
    heads = ours.blocks[0].attn.num_heads
    kind: Any = DiTTransformer2DModel
    model = kind(
        num_attention_heads=heads,
        attention_head_dim=ours.hidden_size // heads,
        in_channels=ours.channels,
        out_channels=ours.out_channels,
        num_layers=len(ours.blocks),
        sample_size=ours.input_size,
        patch_size=ours.patch_size,
        num_embeds_ada_norm=config["num_classes"],
        norm_eps=1e-6,
    ).eval()
    model.load_state_dict(renamed(network.state_dict(), len(ours.blocks)))
    for block in model.transformer_blocks:
        # Its default of 1 spreads the frequencies of time otherwise than the DiT that was published.
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    found: nn.Module = model.requires_grad_(False)
    return found


def renamed(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our state dict by the keys of diffusers."""
    found = {}
    for key, tensor in state.items():
        stem, _, kind = key.rpartition(".")
        if stem in OUTER:
            found[f"{OUTER[stem]}.{kind}"] = tensor
        elif stem in SHARED:
            found |= {f"transformer_blocks.{i}.norm1.emb.{SHARED[stem]}.{kind}": tensor for i in range(depth)}
        elif stem:
            found |= _of_block(stem, kind, tensor)
    return found


def _of_block(stem: str, kind: str, tensor: Tensor) -> dict[str, Tensor]:
    _, i, within = stem.split(".", 2)
    block = f"transformer_blocks.{i}"
    if within == "attn.qkv":
        parts = zip(("to_q", "to_k", "to_v"), tensor.chunk(3), strict=True)
        return {f"{block}.attn1.{name}.{kind}": part for name, part in parts}
    return {f"{block}.{INNER[within]}.{kind}": tensor}


def _check_equal(ours: nn.Module, theirs: nn.Module, ingredients: Ingredients) -> None:
    """Raises ConfigError unless both networks compute the same."""
    from dbench.suites.peers import plain

    given = [torch.from_numpy(array) for array in plain.inputs(ingredients.card, 2)]
    with torch.no_grad():
        expected, got = ours(*given), theirs(*given)
    error = float((got - expected).norm() / expected.norm())
    if not error <= EQUAL:
        raise ConfigError(f"diffusers' network is another one: relative L2 got {error:.1e}, expected {EQUAL:.0e}")
