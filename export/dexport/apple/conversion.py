"""coremltools: a program becomes a package, in float32 or in fp16 with an island of float32."""

from __future__ import annotations

import gc
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np

from dexport.apple.compression import compressor
from drun.console import log_level
from drun.errors import BackendUnavailable, ExportError, door, reason
from drun.mil.numerics import FP16_MAX

INSTALL = "pip install 'dexport[coreml]'"
WAVES = ("sin", "cos")
#: Passes for what no network here has: quantised and complex numbers, symbolic shapes, images as inputs, loops, states.
#: Each pass, whatever it finds, walks over the whole program several times.
IDLE_PASSES = {
    "common::lower_complex_dialect_ops",
    "common::int_op_canonicalization",
    "common::nullify_redundant_quantization_zero_point",
    "common::dequantize_quantize_pair_elimination",
    "common::distributive_quantized_binary_op_scale_normalization",
    "common::dequantize_to_constexpr",
    "common::canonicalize_quantized_lut_pattern",
    "common::remove_symbolic_reshape",
    "common::image_input_preprocess",
    "common::loop_invariant_elimination",
    "common::canonicalize_inplace_pattern",
    "common::prefer_state_in_downstream",
}
#: Numbers above it stand for infinity, as in a mask.
INFINITE = 1e38


def library() -> Any:
    """The module `coremltools`, imported without its warnings of the versions of others.

    Raises:
        BackendUnavailable: it does not load.
    """
    try:
        with quiet():
            import coremltools
    except ImportError as error:
        raise BackendUnavailable(f"coremltools does not load: {reason(error)}; {INSTALL}") from error
    return coremltools


@contextmanager
def quiet() -> Iterator[None]:
    """coremltools warns of the torch that it was not tested with, and draws its own progress bars."""
    with log_level("coremltools", logging.ERROR), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect garbage once, at the end: the millions of objects of a program live until then, with all weights, and the
    walks over them take a tenth of a conversion."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        if was_on:
            gc.enable()


def convert(
    program: Any,
    names: Sequence[str],
    output: str,
    precision: str,
    system: int,
    path: Path,
    is_laid_out: bool = False,
) -> None:
    """Write a `torch.export.ExportedProgram` as a package, whose function is "main".

    Args:
        names: of the inputs, in the order of the program. output: the name of its output.
        precision: fp32 | fp16, or one of `dexport.apple.compression`, of fp16 with weights in fewer bits. In fp16 sines
            and cosines, and all that precedes them, stay float32: a time of 999 times a frequency has more digits.
        system: the number of the oldest iOS that reads it.
        is_laid_out: leave transpositions where they stand, for the network was written for a layout.

    Raises:
        ExportError: coremltools cannot convert it.
    """
    ct, is_half = library(), precision != "fp32"
    with quiet(), door("coremltools does not convert the network", ExportError, "rewrite it"):
        model = ct.convert(
            program,
            minimum_deployment_target=getattr(ct.target, f"iOS{system}"),
            compute_precision=ct.precision.FLOAT16 if is_half else ct.precision.FLOAT32,
            pass_pipeline=_passes(ct, precision, is_laid_out),
            outputs=[ct.TensorType(name=output, dtype=np.float32)],
            skip_model_load=True,
        )
        spec = model.get_spec()
        _rename_inputs(ct, spec, names)
        ct.utils.save_spec(spec, str(path), weights_dir=model.weights_dir)


def _rename_inputs(ct: Any, spec: Any, names: Sequence[str]) -> None:
    """By way of names that nothing has, for one input may have the name that another one gets.

    Raises:
        ExportError: a result of an operation has the name of an input.
    """
    for number, name in enumerate(names):
        own = spec.description.input[number].name
        ct.utils.rename_feature(spec, own, f"input_number_{number}")
        if name in _results(spec):
            raise ExportError(f"the converter calls a result '{name}', as an input: rename the input in forward()")
    for number, name in enumerate(names):
        ct.utils.rename_feature(spec, f"input_number_{number}", name)


def _results(spec: Any) -> set[str]:
    """The names of all results of a program's operations."""
    blocks = spec.mlProgram.functions["main"].block_specializations.values()
    return {output.name for block in blocks for operation in block.operations for output in operation.outputs}


def _passes(ct: Any, precision: str, is_laid_out: bool) -> Any:
    """The converter's passes, with our own to fp16 and to fewer bits."""
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    class HalfPrecision(ct.transform.FP16ComputePrecision):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(op_selector=_Waves())

        @staticmethod
        def fp16_overflow(op: Any) -> bool:
            """Whether an operation has a constant that fp16 does not hold; what stands for infinity may be larger.

            The original takes a third of a conversion.
            """
            for found in op.inputs.values():
                for var in found if isinstance(found, list | tuple) else [found]:
                    is_float = var.op is not None and var.op.op_type == "const" and var.is_tensor_or_scalar_of("fp32")
                    if is_float and _overflows(var.val):
                        return True
            return False

    register_pass("dexport", override=True, name="half")(HalfPrecision)
    own = {} if precision == "fp32" else {"common::add_fp16_cast": "dexport::half"}
    left_out = IDLE_PASSES | ({"common::reduce_transposes"} if is_laid_out else set())
    names = [own.get(name, name) for name in ct.PassPipeline().passes if name not in left_out]
    if compressing := compressor(ct, precision):
        register_pass("dexport", override=True, name="compress")(compressing)
        names.append("dexport::compress")
    return ct.PassPipeline(names, "dexport")


def _overflows(constant: Any) -> bool:
    """Whether fp16 makes infinity of a finite number; constants are large, and nearly all end at the first line."""
    if max(np.max(constant), -np.min(constant)) <= FP16_MAX:
        return False
    sizes = np.abs(constant)
    return bool(((sizes > FP16_MAX) & (sizes < INFINITE)).any())


class _Waves:
    """Which operations of a program are to be in fp16: all but sines and cosines, and what precedes them."""

    def __init__(self) -> None:
        self.wide: dict[int, set[int]] = {}  # block -> its operations in float32, by identity

    def __call__(self, operation: Any) -> bool:
        block = operation.enclosing_block
        if id(block) not in self.wide:
            self.wide[id(block)] = _preceding([one for one in block.operations if one.op_type in WAVES])
        return id(operation) not in self.wide[id(block)]


def _preceding(operations: list[Any]) -> set[int]:
    """Operations and all that they are computed from, by identity."""
    found: set[int] = set()
    while operations:
        operation = operations.pop()
        if id(operation) not in found:
            found.add(id(operation))
            for value in operation.inputs.values():
                several = value if isinstance(value, list | tuple) else [value]
                operations += [one.op for one in several if one is not None and one.op is not None]
    return found
