"""Graphs whose operators are merged before ONNX Runtime sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbench.suites.graphs.candidates import Attempt
from dbench.suites.graphs.exporting import save
from dbench.suites.graphs.source import Original
from drun.errors import ExportError


def multi_head_attention(original: Original) -> Attempt:
    """onnxscript's optimize_for_ort on the trained network at opset 20: contrib MultiHeadAttention."""
    return Attempt(_fused(original))


def _fused(original: Original) -> Path:
    source = original.export("raw-20", original.part.network, 20)
    return original.once("fused", lambda folder: _fuse(source, folder / source.name))


def _fuse(source: Path, path: Path) -> None:
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model, counts = optimize_for_ort(onnx_ir.load(source))
    if not any(counts.values()):
        raise ExportError("optimize_for_ort fuses nothing in this network")
    _check_fused(model, counts)
    save(model, path)


def _check_fused(model: Any, counts: dict[str, int]) -> None:
    """Raises ExportError if an attention was found and not fused: each must be one operator in the end."""
    fused = sum(node.op_type == "MultiHeadAttention" for node in model.graph)
    if fused != counts["sdpa"]:
        raise ExportError(f"optimize_for_ort fused {fused} of {counts['sdpa']} attentions")


def modulated_norm(original: Original) -> Attempt:
    """The modulation of a transformer's norms as scale and bias of LayerNormalization: one pass for three."""
    source = original.default()
    return Attempt(original.once("modulated", lambda folder: _merge_modulations(source, folder / source.name)))


def multi_head_attention_and_modulated_norm(original: Original) -> Attempt:
    """Both: contrib MultiHeadAttention, and the modulation within LayerNormalization."""
    source = _fused(original)
    return Attempt(original.once("fused-modulated", lambda folder: _merge_modulations(source, folder / source.name)))


def _merge_modulations(source: Path, path: Path) -> None:
    """norm(x) scale + shift -> LayerNormalization(x, scale, shift): ONNX lets both have a value for each image."""
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = onnx_ir.load(source)
    merged = [_merge(node) for node in list(model.graph) if node.op_type == "LayerNormalization"]
    if not any(merged):
        raise ExportError("the network has no LayerNormalization that is modulated")
    model.graph.sort()  # scale and shift are computed behind the norm
    RemoveUnusedNodesPass()(model)
    save(model, path)


def _merge(norm: Any) -> bool:
    multiply = _only_user(norm, "Mul")
    add = multiply and _only_user(multiply, "Add")
    if add is None:
        return False
    scale, shift = _other(multiply, norm), _other(add, multiply)
    norm.replace_input_with(1, scale)
    norm.resize_inputs(3)
    norm.replace_input_with(2, shift)
    add.outputs[0].replace_all_uses_with(norm.outputs[0])
    return True


def _only_user(node: Any, operator: str) -> Any:
    users = [use.node for use in node.outputs[0].uses()]
    return users[0] if len(users) == 1 and users[0].op_type == operator else None


def _other(node: Any, of: Any) -> Any:
    """The input of a binary operator that is not the output of `of`."""
    return next(value for value in node.inputs if value is not of.outputs[0])


def optimised_before(original: Original) -> Attempt:
    """The graph that ONNX Runtime itself makes of the default on this processor, saved and opened as it is."""
    source = original.default()
    path = original.once("optimised", lambda folder: _optimise(source, folder / source.name))
    return Attempt(path, _as_it_is)


def _optimise(source: Path, path: Path) -> None:
    from drun.backends.ort.session import library

    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{path.name}.data")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _as_it_is(options: Any) -> None:
    from drun.backends.ort.session import library

    options.graph_optimization_level = library().GraphOptimizationLevel.ORT_DISABLE_ALL
