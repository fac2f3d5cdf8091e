"""Apple's rules: each is found where it is broken, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from coreml_packages import Function, executor_of
from torch import Tensor
from torch.nn import functional as F

from dexport.apple.rules import Finding, Padding, broken, padded, summary
from drun.mil.executor import Executor


def converted(function: Callable[[Tensor], Tensor], folder: Path, precision: str = "fp16") -> Executor:
    x = torch.zeros(1, 4, 8, 32)
    return executor_of(Function(function), [x], folder, precision)


KERNEL = torch.randn(4, 1, 1, 17)
WEIGHT = torch.randn(32, 32)


@pytest.mark.parametrize(
    ("function", "operation", "rule"),
    [
        (lambda x: x.softmax(-1), "softmax", "its axis is not that of the channels"),
        (lambda x: x.softmax(2), "softmax", "its axis is not that of the channels"),
        (lambda x: F.linear(x, WEIGHT), "linear", "there is a 1x1 convolution"),
        (lambda x: x @ x.transpose(2, 3), "matmul", "there is einsum, a head at a time"),
        (lambda x: F.scaled_dot_product_attention(x, x, x), "scaled_dot_product_attention", "there is attention a"),
        (lambda x: F.conv2d(x, KERNEL, groups=4), "conv", "its kernel is wider than 13"),
        (lambda x: F.conv2d(x, KERNEL[:, :, :, :3], stride=5, groups=4), "conv", "of its strides 5 has other factors"),
        (lambda x: F.conv2d(x, KERNEL[..., :3], dilation=7, groups=4), "conv", "of its dilations 7 has other factors"),
        (lambda x: F.avg_pool2d(x, 3), "avg_pool", "of its strides 3 is neither 2 nor 4"),
        (lambda x: x.reshape(1, 1, 1, 1024).repeat(1, 1, 1, 17), "tile", "it has a side of 17408, above 16384"),
        (lambda x: x.reshape(1, 1024, 1, 1).repeat(1, 65, 1, 1), "tile", "it has 66560 channels, above 65536"),
        (lambda x: x.topk(2, dim=1).values, "topk", "it is computed on the processor"),
        (lambda x: x[:, [2, 0, 1]], "gather", "it is computed on the processor"),
        (lambda x: x.sin(), "sin", "it is computed on the processor"),
        (lambda x: x.sin(), "sin", "it gives fp32, which is computed elsewhere"),
        (lambda x: torch.maximum(x, torch.full((4, 1, 1), -torch.inf)), "maximum", "it has a constant that is not"),
    ],
)
def test_what_breaks_a_rule(function: Callable[[Tensor], Tensor], operation: str, rule: str, tmp_path: Path) -> None:
    found = broken(converted(function, tmp_path))
    assert [one for one in found if one.operation.startswith(operation) and one.rule.startswith(rule)]


def test_what_breaks_none(tmp_path: Path) -> None:
    """What a network is made of: pointwise convolutions, softmax over channels, norms over them, activations."""
    weight = torch.randn(4, 4, 1, 1)

    def function(x: Tensor) -> Tensor:
        x = F.gelu(F.conv2d(x, weight)).softmax(1)
        q, k = x.flatten(2).unsqueeze(2).split(2, dim=1)
        weights = torch.einsum("bchq,bkhc->bkhq", q, k.transpose(1, 3)).softmax(dim=1)
        return torch.einsum("bkhq,bchk->bchq", weights, k)

    executor = converted(function, tmp_path)
    assert {"einsum", "softmax", "conv", "gelu", "transpose", "split"} <= {
        one.operator.name for one in executor.instructions
    }
    assert broken(executor) == []


def test_float32_is_for_the_edges_alone(tmp_path: Path) -> None:
    lines = summary(broken(converted(lambda x: x.relu() * 2 + 1, tmp_path, "fp32")))
    assert len(lines) == 1
    assert lines[0].startswith("relu 'relu")
    assert lines[0].endswith("it gives fp32, which is computed elsewhere; and 2 more")


def test_last_axes_are_filled_up(tmp_path: Path) -> None:
    executor = converted(lambda x: F.avg_pool2d(x, (1, 4)).mean((2, 3), keepdim=True), tmp_path)
    found = {one.side: one.cost for one in padded(executor)}
    assert found == {8: 4.0, 1: 32.0}
    assert [one.side for one in padded(executor)] == [1, 8]
    assert str(Padding(72, 5)) == "72 in 5 tensors, which take 1.33 times their memory"


def test_a_line_for_each_rule() -> None:
    found = [Finding("it is slow", "conv", "a"), Finding("it is wide", "add", "b"), Finding("it is slow", "mul", "c")]
    assert summary(found) == ["conv 'a': it is slow; and 1 more", "add 'b': it is wide"]
    assert summary([]) == []
