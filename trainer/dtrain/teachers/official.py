"""Vision transformers in the layout of timm, in which MoCo-v3, MAE and DINO were published, for transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from drun.errors import CheckpointError

State = dict[str, Tensor]

#: Names that transformers writes and reads: regular expression -> replacement, the first that fits wins.
_NAMES = (
    (r"cls_token", "embeddings.cls_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(weight|bias)", r"embeddings.patch_embeddings.projection.\1"),
    (r"blocks\.(\d+)\.norm1\.(weight|bias)", r"encoder.layer.\1.layernorm_before.\2"),
    (r"blocks\.(\d+)\.norm2\.(weight|bias)", r"encoder.layer.\1.layernorm_after.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)", r"encoder.layer.\1.intermediate.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)", r"encoder.layer.\1.output.dense.\2"),
    (r"norm\.(weight|bias)", r"layernorm.\1"),
)
_QKV = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
#: The keys of the encoder. All others belong to a head, a decoder or the momentum encoder.
_ENCODER = re.compile(r"(cls_token|pos_embed|patch_embed|blocks|norm)(\.|$)")
#: Misspelt names in two blocks of a published MoCo-v3 file.
_TYPOS = {"norm13": "norm1", "norm14": "norm2", "fc13": "fc1", "fc14": "fc2"}


def convert(content: Any, num_heads: int, name: str) -> tuple[dict[str, Any], State]:
    """The configuration for ViTConfig and the state dict for ViTModel, both in the names of transformers.

    Args:
        content: the content of an official file: `state_dict` (MoCo-v3) or `model` (MAE), or the weights themselves.
        num_heads: attention heads, which the weights do not tell.
        name: of the file, for errors.

    Raises:
        CheckpointError: no vision transformer, or one with weights that are not known here.
    """
    state = _encoder(content, name)
    converted: State = {}
    for key, value in state.items():
        if match := _QKV.fullmatch(key):
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            layer = f"encoder.layer.{match[1]}.attention.attention"
            converted |= {f"{layer}.{part}.{match[2]}": chunk for part, chunk in parts}
        else:
            converted[_rename(key, name)] = value
    return _config(state, num_heads), converted


def _encoder(content: Any, name: str) -> State:
    """The encoder's weights without prefixes and typos."""
    inner = content
    for key in ("state_dict", "model"):
        inner = inner.get(key, inner) if isinstance(inner, Mapping) else {}
    tensors = {key.removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    base = {key: value for key, value in tensors.items() if key.startswith("base_encoder.")}
    bare = {_correct(key.removeprefix("base_encoder.")): value for key, value in (base or tensors).items()}
    state = {key: value for key, value in bare.items() if _ENCODER.match(key)}
    for key in ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"):
        if key not in state:
            raise CheckpointError(f"{name} holds no vision transformer in the layout of timm: it lacks '{key}'")
    return state


def _correct(key: str) -> str:
    return ".".join(_TYPOS.get(part, part) for part in key.split("."))


def _rename(key: str, name: str) -> str:
    for pattern, replacement in _NAMES:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    raise CheckpointError(f"{name} holds '{key}', which no plain vision transformer has: it is another teacher")


def _config(state: State, num_heads: int) -> dict[str, Any]:
    patch_size = state["patch_embed.proj.weight"].shape[-1]
    return {
        "hidden_size": state["cls_token"].shape[-1],
        "num_hidden_layers": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        "num_attention_heads": num_heads,
        "intermediate_size": state["blocks.0.mlp.fc1.weight"].shape[0],
        "num_channels": state["patch_embed.proj.weight"].shape[1],
        "patch_size": patch_size,
        "image_size": patch_size * round((state["pos_embed"].shape[1] - 1) ** 0.5),
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
    }
