"""Weights in fewer bits: palettes, which k-means finds, and integers with scales. Results of operations stay fp16.

Apple's advice: palettes for the Neural Engine, in groups of channels where they are small; for the GPU integers of 4
bits with a scale a block (apple.github.io/coremltools, "Optimizing models").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What stays in fp16, by the names of weights: positions, tables, embedders of time and label, whatever they modulate
#: the blocks by, and the last layer, that of decoders, too. Their errors reach every pixel, or every step.
KEPT = re.compile(
    r"pos_embed|_table|_embedder_|adaln_|time_mlp|(downs|mids?|ups)_.*_mlp_1|final_|conv_out", re.IGNORECASE
)
#: Channels that share a palette, and neighbouring inputs that share a scale.
GROUP, BLOCK = 16, 32
PALETTES: Mapping[str, dict[str, Any]] = {
    "palette8": {"nbits": 8, "granularity": "per_tensor"},
    "palette6": {"nbits": 6, "granularity": "per_grouped_channel", "group_size": GROUP},
    "palette4": {"nbits": 4, "granularity": "per_grouped_channel", "group_size": GROUP},
}
INTEGERS: Mapping[str, dict[str, Any]] = {
    "weights8": {"dtype": "int8", "granularity": "per_channel"},
    "weights4": {"dtype": "int4", "granularity": "per_block", "block_size": BLOCK},
}


def compressor(ct: Any, precision: str) -> Any:
    """The class of a pass that compresses the weights of a program; None for precisions that do not."""
    from coremltools.optimize.coreml import _quantization_passes as passes

    configs = ct.optimize.coreml
    if precision in PALETTES:
        base, own = passes.palettize_weights, configs.OpPalettizerConfig(mode="kmeans", **PALETTES[precision])
    elif precision in INTEGERS:
        base = passes.linear_quantize_weights
        own = configs.OpLinearQuantizerConfig(mode="linear_symmetric", **INTEGERS[precision])
    else:
        return None

    class Compressor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__(configs.OptimizationConfig(global_config=own))

        def is_valid_op(self, op: Any) -> bool:
            return bool(super().is_valid_op(op)) and not KEPT.search(op.name)

    return Compressor
