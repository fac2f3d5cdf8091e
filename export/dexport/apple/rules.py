"""Apple's rules for the Neural Engine, looked up in a finished package.

Their sources: github.com/apple/ml-ane-transformers, github.com/apple/ml-stable-diffusion, and the references of
model-authoring in github.com/apple/coreai-models. The converter itself refuses tensors of more than five axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drun.mil.executor import Executor
from drun.mil.plan import Constant, Instruction
from drun.mil.types import TensorType

#: Elements of fp16 in 64 bytes: the last axis of each tensor is filled up to a multiple of them.
ALIGNED = 32
MAX_KERNEL = 13
#: Of the channels, and of rows and columns.
MAX_CHANNELS, MAX_SIDE = 65536, 16384
POOL_STRIDES = frozenset({2, 4})
TYPES = frozenset({"fp16", "int8", "uint8", "int16", "bool"})
#: Operations that the Neural Engine leaves to the processor.
ON_PROCESSOR = frozenset(
    {
        "gather",
        "gather_nd",
        "gather_along_axis",
        "sin",
        "cos",
        "one_hot",
        "topk",
        "argsort",
        "range_1d",
        "fill",
        "cumsum",
    }
)
#: Operations for which there is a better one.
INSTEAD: Mapping[str, str] = {
    "linear": "a 1x1 convolution",
    "matmul": "einsum, a head at a time",
    "scaled_dot_product_attention": "attention a head at a time: several fused ones end the compilation",
}


@dataclass(frozen=True)
class Finding:
    """An operation that breaks a rule."""

    rule: str
    operation: str  # its type
    name: str  # of its result

    def __str__(self) -> str:
        return f"{self.operation} '{self.name}': {self.rule}"


@dataclass(frozen=True)
class Padding:
    """Tensors whose last axis is filled up in memory."""

    side: int
    tensors: int

    @property
    def cost(self) -> float:
        """How many times as much memory they take."""
        return ALIGNED * math.ceil(self.side / ALIGNED) / self.side

    def __str__(self) -> str:
        return f"{self.side} in {self.tensors} tensors, which take {self.cost:.3g} times their memory"


def broken(executor: Executor) -> list[Finding]:
    """The operations of a function that break a rule, but for `padded`."""
    return [
        Finding(rule, instruction.operator.name, instruction.name)
        for instruction in executor.instructions
        for check in _CHECKS
        for rule in check(instruction, executor)
    ]


def summary(findings: Sequence[Finding]) -> list[str]:
    """A line for each rule that is broken."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    return [
        str(found[0]) if len(found) == 1 else f"{found[0]}; and {len(found) - 1} more" for found in by_rule.values()
    ]


def padded(executor: Executor) -> list[Padding]:
    """The last axes that are no multiple of 32, the costliest first: small feature maps cannot meet that."""
    sides: dict[int, int] = {}
    for instruction in executor.instructions:
        for _, type in instruction.outputs:
            if type.shape and type.shape[-1] % ALIGNED:
                sides[type.shape[-1]] = sides.get(type.shape[-1], 0) + 1
    return sorted((Padding(side, count) for side, count in sides.items()), key=lambda one: one.cost, reverse=True)


# ---- the rules ------------------------------------------------------------------------------------------


def _place(one: Instruction, _: Executor) -> Iterator[str]:
    if one.operator.name in ON_PROCESSOR:
        yield "it is computed on the processor"
    if better := INSTEAD.get(one.operator.name):
        yield f"there is {better}"


def _type(one: Instruction, executor: Executor) -> Iterator[str]:
    """Casts at the inputs and the output are the edges of the program."""
    is_edge = one.operator.name == "cast" and (_reads_input(one, executor) or one.name in executor.outputs)
    if any(type.dtype not in TYPES for _, type in one.outputs) and not is_edge:
        yield f"it gives {one.outputs[0][1].dtype}, which is computed elsewhere"


def _reads_input(one: Instruction, executor: Executor) -> bool:
    return one.arguments.get("x") in executor.inputs


def _softmax(one: Instruction, executor: Executor) -> Iterator[str]:
    if one.operator.name != "softmax":
        return
    axis = one.arguments.get("axis")
    along = int(axis.get()) if isinstance(axis, Constant) else -1
    rank = len(one.outputs[0][1].shape)
    if along % rank != 1:
        yield "its axis is not that of the channels"


def _kernel(one: Instruction, executor: Executor) -> Iterator[str]:
    weight = one.arguments.get("weight")
    if one.operator.name == "conv" and isinstance(weight, Constant) and max(weight.type.shape[2:]) > MAX_KERNEL:
        yield f"its kernel is wider than {MAX_KERNEL}"


def _strides(one: Instruction, _: Executor) -> Iterator[str]:
    """Of convolutions and pools, and how far apart a kernel's elements lie."""
    for key in ("strides", "dilations"):
        found = one.arguments.get(key)
        steps = [int(step) for step in found.get()] if isinstance(found, Constant) else []
        if one.operator.name in ("conv", "conv_transpose") and (odd := [step for step in steps if _rest(step) > 1]):
            yield f"of its {key} {odd[0]} has other factors than 2 and 3"
        if one.operator.name.endswith("_pool") and (odd := [step for step in steps if step not in POOL_STRIDES]):
            yield f"of its {key} {odd[0]} is neither 2 nor 4"


def _rest(step: int) -> int:
    """A step without its factors 2 and 3."""
    for factor in (2, 3):
        while step % factor == 0:
            step //= factor
    return step


def _sides(one: Instruction, _: Executor) -> Iterator[str]:
    """Axes are images, channels, rows and columns."""
    for _name, type in one.outputs:
        channels, *sides = type.shape[1:] if len(type.shape) > 2 else (0,)
        if channels > MAX_CHANNELS:
            yield f"it has {channels} channels, above {MAX_CHANNELS}"
        if sides and max(sides) > MAX_SIDE:
            yield f"it has a side of {max(sides)}, above {MAX_SIDE}"


def _infinite(one: Instruction, _: Executor) -> Iterator[str]:
    for found in one.arguments.values():
        if isinstance(found, Constant) and _is_float(found.type) and not np.isfinite(found.get()).all():
            yield "it has a constant that is not finite"


def _is_float(type: TensorType) -> bool:
    return type.is_float and type.size > 0


_CHECKS: tuple[Callable[[Instruction, Executor], Iterator[str]], ...] = (
    _place,
    _type,
    _softmax,
    _kernel,
    _strides,
    _sides,
    _infinite,
)
