"""Weights in fewer bits: which ones, in what form, and what is left of the function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from coreml_packages import executor_of
from torch import Tensor, nn

from dexport.apple.compression import INTEGERS, KEPT, PALETTES
from drun.mil.executor import Executor
from drun.run.parity import compare


class Tokens(nn.Module):
    """A block of a transformer without its attention, and what surrounds it."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 64, 64) * 0.1)
        self.blocks = nn.ModuleList([nn.ModuleDict({"fc1": nn.Linear(64, 256), "fc2": nn.Linear(256, 64)})])
        self.adaLN_modulation = nn.Linear(64, 64)
        self.final_layer = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed
        block: nn.ModuleDict = self.blocks[0]  # type: ignore[assignment]
        x = x + block["fc2"](nn.functional.gelu(block["fc1"](x)))
        out: Tensor = self.final_layer(x * (1 + self.adaLN_modulation(x)))
        return out


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Tokens().eval().requires_grad_(False)


def converted(network: nn.Module, precision: str, folder: Path) -> Executor:
    return executor_of(network, [torch.zeros(1, 64, 64)], folder, precision)


@pytest.mark.parametrize(
    ("precision", "least_db", "share"),
    [
        ("palette8", 55, 0.67), ("palette6", 50, 0.62), ("palette4", 35, 0.5),
        ("weights8", 60, 0.67), ("weights4", 38, 0.5),
    ],
)  # fmt: skip
def test_what_is_compressed_and_what_it_costs(
    network: nn.Module, precision: str, least_db: float, share: float, tmp_path: Path
) -> None:
    executor = converted(network, precision, tmp_path)
    torch.manual_seed(1)
    x = torch.randn(1, 64, 64)
    found = compare("call", network(x).numpy(), executor.run({"x": x.numpy()})["out"], 1.0)
    assert found.psnr_db > least_db
    kind = "constexpr_lut_to_dense" if precision in PALETTES else "constexpr_blockwise_shift_scale"
    (block,) = executor.package.program.functions["main"].blocks.values()
    names = {one.outputs[0].name for one in block.operations if one.type == kind}
    assert {name.removesuffix("_to_fp16_palettized").removesuffix("_to_fp16_quantized") for name in names} == {
        "p_blocks_0_fc1_weight", "p_blocks_0_fc2_weight",
    }  # fmt: skip
    whole = 2 * sum(parameter.numel() for parameter in network.parameters())
    assert (executor.package.path.parent / "weights" / "weight.bin").stat().st_size < share * whole + 4096


def test_every_precision_has_its_form() -> None:
    assert {*PALETTES} | {*INTEGERS} == {"palette8", "palette6", "palette4", "weights8", "weights4"}


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("p_pos_embed_to_fp16", True),
        ("p_y_embedder_embedding_table_weight_to_fp16", True),
        ("p_t_embedder_mlp_0_weight_to_fp16", True),
        ("p_blocks_3_adaln_modulation_1_weight_to_fp16", True),
        ("p_final_layer_linear_weight_to_fp16", True),
        ("p_time_mlp_1_weight_to_fp16", True),
        ("p_downs_0_1_mlp_1_weight_to_fp16", True),
        ("p_final_conv_1_weight_to_fp16", True),
        ("p_decoder_conv_out_weight_to_fp16", True),
        ("p_blocks_3_mlp_fc1_weight_to_fp16", False),
        ("p_blocks_3_attn_qkv_weight_to_fp16", False),
        ("p_downs_0_1_block_1_weight_to_fp16", False),
        ("p_ups_0_0_residual_conv_weight_to_fp16", False),
    ],
)
def test_what_stays_in_fp16(name: str, is_kept: bool) -> None:
    assert bool(KEPT.search(name)) == is_kept
