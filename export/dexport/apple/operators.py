"""Operators of PyTorch that Core ML's converter reads rightly, and by which of their arguments.

Each was converted with such arguments, computed by our executor and compared with PyTorch. The converter drops what it
does not read without a word, so that whatever stands in no table here is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from drun.errors import ExportError

#: What says where and how a tensor lies, which Core ML decides itself, or chooses between equal kernels.
PLACES = frozenset({
    "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "cudnn_enabled", "cudnn_enable",
})  # fmt: skip
#: What computes nothing: tests of what was traced, and Python's own operators on shapes.
IDLE = frozenset({"_assert_tensor_metadata", "_assert_scalar", "getitem", "ge", "le", "gt", "lt", "eq", "ne"})
#: Operators without arguments that may be left out; default overloads are called as their operator. Core ML adds 1e-12
#: to what rsqrt gets, which is nothing beside the epsilon of a norm.
PLAIN = frozenset({
    "_native_batch_norm_legit.no_stats", "_native_batch_norm_legit_no_training", "_unsafe_view", "_weight_norm",
    "abs", "acos", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add.Tensor", "all.dim", "any.dim", "asin",
    "atan", "atan2", "atanh", "bitwise_not", "bmm", "ceil", "clamp_min", "clone", "col2im", "cos", "cosh",
    "div.Tensor", "einsum", "eq.Scalar", "eq.Tensor", "erf", "exp", "exp2", "expand", "expm1", "eye", "flip",
    "floor", "frac", "ge.Scalar", "gelu", "gt.Scalar", "hardsigmoid", "hardswish", "hstack", "im2col",
    "index.Tensor", "index_select", "instance_norm", "isnan", "le.Scalar", "linspace", "log", "log10", "log1p",
    "log2", "log_softmax.int", "logical_and", "logical_not", "logical_or", "logsumexp", "lt.Scalar",
    "masked_fill.Scalar", "matmul", "max", "maximum", "mean", "min.dim", "minimum", "mish", "mul.Tensor",
    "ne.Scalar", "neg", "outer", "permute", "pixel_shuffle", "pixel_unshuffle", "pow.Tensor_Scalar", "prelu",
    "relu", "relu6", "remainder.Scalar", "repeat", "round", "rsqrt", "select.int", "select_scatter", "selu", "sigmoid",
    "sign", "silu", "sin", "sinh", "sqrt", "square", "squeeze.dim", "squeeze.dims", "sub.Tensor", "sym_size.int",
    "t", "tan", "tanh", "threshold", "transpose.int", "unsqueeze", "upsample_bilinear2d.vec",
    "upsample_linear1d.vec", "upsample_nearest1d.vec", "upsample_nearest2d.vec", "view", "where.Scalar",
    "where.self",
})  # fmt: skip
#: Operator -> those of its arguments with a default that the converter reads.
READ: Mapping[str, str] = {
    "_to_copy": "dtype",
    "amax": "dim keepdim",
    "amin": "dim keepdim",
    "arange": "dtype",
    "arange.start": "dtype",
    "arange.start_step": "dtype step",
    "argmax": "dim keepdim",
    "argmin": "dim keepdim",
    "avg_pool2d": "ceil_mode count_include_pad padding stride",
    "avg_pool3d": "stride",
    "cat": "dim",
    "clamp": "max min",
    "clamp.Tensor": "max min",
    "conv1d": "bias padding",
    "conv2d": "bias dilation groups padding stride",
    "conv2d.padding": "bias padding",
    "conv3d": "bias padding",
    "conv_transpose2d.input": "bias dilation groups padding stride",
    "elu": "alpha",
    "embedding": "padding_idx",
    "full": "dtype",
    "full_like": "dtype",
    "glu": "dim",
    "group_norm": "bias eps weight",
    "hardtanh": "max_val min_val",
    "layer_norm": "bias eps weight",
    "leaky_relu": "negative_slope",
    "linalg_vector_norm": "dim keepdim ord",
    "linear": "bias",
    "max.dim": "keepdim",
    "max_pool2d": "ceil_mode padding stride",
    "mean.dim": "dtype keepdim",
    "one_hot": "num_classes",
    "ones": "dtype",
    "ones_like": "dtype",
    "pad": "mode value",
    "repeat_interleave.self_int": "dim",
    "roll": "dims",
    "scalar_tensor": "dtype",
    "scaled_dot_product_attention": "attn_mask",
    "slice.Tensor": "dim end start step",
    "slice_scatter": "dim end start step",
    "softmax.int": "dtype",
    "softplus": "beta",
    "split.Tensor": "dim",
    "split_with_sizes": "dim",
    "stack": "dim",
    "std.dim": "keepdim unbiased",
    "sum.dim_IntList": "dtype keepdim",
    "topk": "dim largest sorted",
    "unbind.int": "dim",
    "var.dim": "keepdim unbiased",
    "zeros": "dtype",
    "zeros_like": "dtype",
}


def check(node: Any) -> None:
    """Raises ExportError unless the converter reads a call of a traced program as PyTorch computes it."""
    name = called(node)
    if name in IDLE:
        return
    if name not in PLAIN and name not in READ:
        raise ExportError(
            f"the converter to Core ML is not known to read the operator {name} rightly: write it by others"
        )
    given, defaults = arguments(node)
    read = PLACES | {*READ.get(name, "").split()}
    for key, value in given.items():
        if key in defaults and key not in read and value != defaults[key]:
            raise ExportError(f"the converter to Core ML is not known to read '{key}' of {name}: rewrite it without")
    for what, is_misread in MISREAD.items():
        if is_misread(name, given):
            raise ExportError(f"the converter to Core ML reads {name} wrongly {what}: rewrite it")


def called(node: Any) -> str:
    """The operator of a call, with its overload unless that is the default."""
    name = getattr(node.target, "__name__", str(node.target))
    return str(name).removesuffix(".default")


def arguments(node: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a call gives, by name, and the defaults of what may be left out."""
    formal = node.target._schema.arguments
    given = dict(zip((one.name for one in formal), node.args, strict=False)) | dict(node.kwargs)
    return given, {one.name: one.default_value for one in formal if one.has_default_value()}


# ---- what is read, but wrongly --------------------------------------------------------------------------


def _converts(name: str, given: Mapping[str, Any]) -> bool:
    """The type that a reduction computes in is dropped."""
    if name not in ("sum.dim_IntList", "mean.dim", "softmax.int") or given.get("dtype") is None:
        return False
    return bool(given["dtype"] != _type(next(iter(given.values()))))


def _truncates(name: str, given: Mapping[str, Any]) -> bool:
    """A constant of a whole type keeps its fraction."""
    value = given.get("fill_value", given.get("s"))
    dtype = given.get("dtype") or (_type(given["self"]) if name == "full_like" else None)
    is_whole = dtype is not None and not dtype.is_floating_point
    return name in ("full", "full_like", "scalar_tensor") and is_whole and isinstance(value, float) and value % 1 != 0


def _type(node: Any) -> torch.dtype:
    found: torch.dtype = node.meta["val"].dtype
    return found


#: In which form -> whether a call has it.
MISREAD: Mapping[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "with running statistics": lambda name, given: name == "instance_norm" and not given["use_input_stats"],
    "over all axes at once": lambda name, given: name in ("argmax", "argmin") and given.get("dim") is None,
    "with an ellipsis": lambda name, given: name == "einsum" and "..." in given["equation"],
    "in another type than its input's": _converts,
    "as whole numbers of a fraction": _truncates,
}
