"""Weights, or weights and activations, in 8 bits, by ONNX Runtime's own tools."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbench.suites.graphs.candidates import Attempt
from dbench.suites.graphs.source import Original
from dexport.targets.onnx import EXTERNAL_DATA_BYTES
from drun.errors import ExportError

#: What holds weights.
OPERATORS = ["Conv", "MatMul", "Gemm"]
#: Weights that share a scale.
BLOCK_SIZE = 32


def dynamic_int8(original: Original) -> Attempt:
    """quantize_dynamic: int8 weights, a scale for each channel; activations in a scale of each call."""
    return Attempt(original.once("dynamic", lambda folder: _dynamic(original, folder)))


def _dynamic(original: Original, folder: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    source = original.default()
    with _quiet():
        quantize_dynamic(
            _without_shapes(source),
            folder / source.name,
            op_types_to_quantize=[
                "MatMul",
                "Gemm",
            ],  # no processor kernel has ConvInteger with a scale for each channel
            per_channel=True,
            use_external_data_format=_is_large(source),
        )


def qdq_int8(original: Original) -> Attempt:
    """quantize_static: int8 weights and uint8 activations in fixed scales of whole trajectories, MinMax."""
    return Attempt(original.once("qdq", lambda folder: _static(original, folder)))


def _static(original: Original, folder: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    source = original.default()
    with _quiet():
        quantize_static(
            _without_shapes(source),
            folder / source.name,
            _Feeds(original),
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=_is_large(source),
        )


class _Feeds:
    """The calibration as `onnxruntime.quantization.CalibrationDataReader` hands it out."""

    def __init__(self, original: Original) -> None:
        self._left = iter(original.calibration)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def weights_8_bits(original: Original) -> Attempt:
    """MatMulNBits: weights in 8 bits, a scale for each 32 of them; products in float32."""
    return Attempt(original.once("nbits", lambda folder: _weights_only(original, folder, accuracy_level=0)))


def weights_8_bits_int8_products(original: Original) -> Attempt:
    """MatMulNBits as before; activations are rounded to int8 in each product, accuracy_level 4."""
    return Attempt(original.once("nbits-int8", lambda folder: _weights_only(original, folder, accuracy_level=4)))


def _weights_only(original: Original, folder: Path, accuracy_level: int) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    source = original.default()
    with _quiet():
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), bits=8, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=accuracy_level
        )
        quantizer.process()
    if not any(node.op_type == "MatMulNBits" for node in quantizer.model.nodes()):
        raise ExportError("the network has no MatMul with weights")
    quantizer.model.save_model_to_file(str(folder / source.name), _is_large(source))


def _without_shapes(path: Path) -> Any:
    """The graph without the shapes between its operators: the tools transpose weights, and then find them wrong."""
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:]
    return model


def _is_large(path: Path) -> bool:
    """Whether the weights have to lie beside the graph."""
    return sum(file.stat().st_size for file in path.parent.iterdir()) > EXTERNAL_DATA_BYTES


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools advise on graphs that they have not seen, by the root of all loggers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
