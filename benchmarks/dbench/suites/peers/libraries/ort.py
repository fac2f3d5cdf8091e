"""ONNX Runtime on the plain export: all optimisations, everyone's threads, and the batch fixed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from dbench.core.inputs import Inputs
from dbench.suites.peers.libraries import Ingredients, Peer, Predict
from dbench.suites.peers.plain import BATCH, INPUTS
from drun.backends.ort.session import library


def peers(ingredients: Ingredients) -> list[Peer]:
    return [Peer("plain ONNX Runtime", "fp32", partial(_open, ingredients.onnx, ingredients.threads))]


def _open(graph: Path, threads: int, given: Inputs) -> Predict:
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name(BATCH, len(given[0]))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def predict(*arrays: Any) -> Any:
        return session.run(None, dict(zip(INPUTS, arrays, strict=False)))[0]

    return predict
