"""The matrix rate: the fastest that any library here multiplies matrices like the model's largest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from drun.backends.openvino.graph import capabilities, core, library
from drun.backends.ort import session as ort
from drun.extras import is_installed

#: A burst of products has so many operations that its start does not count; one of tiny products has fewer.
BURST_FLOPS, MOST_IN_BURST = 4e9, 50
#: How many of the model's products are tried.
MOST_PRODUCTS = 2


@dataclass(frozen=True)
class Product:
    """(rows, inner) times (inner, columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns

    @property
    def times(self) -> int:
        """How many make a burst."""
        return min(MOST_IN_BURST, math.ceil(BURST_FLOPS / self.flops))

    def __str__(self) -> str:
        return f"{self.rows}x{self.inner} by {self.inner}x{self.columns}"


def largest(network: nn.Module, *inputs: Any) -> list[Product]:
    """The largest products of a call, in linear maps and convolutions, each size once, the largest first."""
    found: set[Product] = set()
    with torch.no_grad(), _seen(network, found):
        network(*inputs)
    return sorted(found, key=lambda product: product.flops, reverse=True)[:MOST_PRODUCTS]


@contextmanager
def _seen(network: nn.Module, found: set[Product]) -> Iterator[None]:
    def look(module: nn.Module, _: Any, out: torch.Tensor) -> None:
        weight: Any = module.weight
        columns, inner = len(weight), weight[0].numel()
        found.add(Product(out.numel() // columns, inner, columns))

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(look) for layer in layers if getattr(layer, "groups", 1) == 1]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# ---- kernels --------------------------------------------------------------------------------------------


def bursts(product: Product, threads: int) -> dict[tuple[str, str], Callable[[], object]]:
    """(library, precision) -> a burst of products on N(0, 1) matrices."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((product.rows, product.inner), dtype=np.float32)
    b = rng.standard_normal((product.inner, product.columns), dtype=np.float32)
    kernels: dict[tuple[str, str], Callable[[], object]] = {
        ("PyTorch", "fp32"): _torch(a, b, torch.float32),
        ("PyTorch", "bf16"): _torch(a, b, torch.bfloat16),
        ("ONNX Runtime", "fp32"): _ort(a, b, threads),
    }
    if is_installed("openvino"):
        kernels["OpenVINO", "fp32"] = _openvino(a, b, threads, "f32")
        if "BF16" in capabilities():
            kernels["OpenVINO", "bf16"] = _openvino(a, b, threads, "bf16")
    return {key: _repeated(kernel, product.times) for key, kernel in kernels.items()}


def _repeated(kernel: Callable[[], object], times: int) -> Callable[[], object]:
    def burst() -> object:
        for _ in range(times):
            product = kernel()
        return product

    return burst


def _torch(a: Any, b: Any, dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.from_numpy(matrix).to(dtype) for matrix in (a, b))
    out = torch.empty(len(a), b.shape[1], dtype=dtype)
    return lambda: torch.mm(left, right, out=out)


def _ort(a: Any, b: Any, threads: int) -> Callable[[], object]:
    import onnx

    onnxruntime = ort.library()
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["out"])
    sides = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "product",
        [onnx.helper.make_tensor_value_info("a", sides, a.shape)],
        [onnx.helper.make_tensor_value_info("out", sides, (len(a), b.shape[1]))],
        [onnx.numpy_helper.from_array(b, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})[0]


def _openvino(a: Any, b: Any, threads: int, hint: str) -> Callable[[], object]:
    openvino = library()
    from openvino import opset13

    left = opset13.parameter(list(a.shape), np.float32)
    model = openvino.Model([opset13.matmul(left, opset13.constant(b), False, False)], [left], "product")
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
    request = core().compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(a, shared_memory=True))
    return lambda: request.infer()[0]
