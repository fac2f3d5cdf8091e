"""OpenVINO on the plain export: fixed shapes and the latency hint, in float32, bfloat16 and NNCF's default int8."""

from __future__ import annotations

from functools import cache
from typing import Any

from dbench.core.inputs import Inputs
from dbench.suites.peers import plain
from dbench.suites.peers.libraries import Ingredients, Peer, Predict
from dbench.suites.peers.plain import INPUTS
from dexport.quantisation.quantise import quantiser, silenced
from drun.backends.openvino.graph import capabilities, core, library
from dtrain.models.transformer import MODELS as TRANSFORMERS

BF16, F32 = {"INFERENCE_PRECISION_HINT": "bf16"}, {"INFERENCE_PRECISION_HINT": "f32"}


def peers(ingredients: Ingredients) -> list[Peer]:
    """int8 has no hint of its own: what it does not quantise is computed in what OpenVINO takes by default."""
    graph = ingredients.onnx
    read = cache(lambda: library().convert_model(graph))
    found = [Peer("plain OpenVINO, fp32", "fp32", lambda given: _compile(read(), ingredients, given, F32))]
    if "BF16" in capabilities():
        found.append(Peer("plain OpenVINO, bf16", "bf16", lambda given: _compile(read(), ingredients, given, BF16)))
    quantised = cache(lambda: quantise(read(), ingredients))
    name = "plain OpenVINO, NNCF's int8"
    return [*found, Peer(name, "int8", lambda given: _compile(quantised(), ingredients, given, {}))]


def _compile(model: Any, ingredients: Ingredients, given: Inputs, hints: dict[str, str]) -> Predict:
    """A copy of the model with the shapes of these inputs, compiled."""
    fixed = model.clone()
    fixed.reshape({name: list(array.shape) for name, array in zip(INPUTS, given, strict=False)})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": ingredients.threads, **hints}
    compiled = core().compile_model(fixed, "CPU", config)

    def predict(*arrays: Any) -> Any:
        return compiled(arrays)[0]

    return predict


def quantise(model: Any, ingredients: Ingredients) -> Any:
    """`nncf.quantize` with its defaults, calibrated on states of real sampling; transformers are named as such."""
    predict = _compile(model, ingredients, plain.inputs(ingredients.card, 1), F32)
    states = plain.states(predict, ingredients.card, ingredients.states)
    nncf = quantiser()
    with silenced():
        is_transformer = ingredients.config["name"] in TRANSFORMERS
        kind = nncf.ModelType.TRANSFORMER if is_transformer else None
        data = nncf.Dataset(states, lambda arrays: dict(zip(INPUTS, arrays, strict=False)))
        return nncf.quantize(model.clone(), data, subset_size=len(states), model_type=kind)
