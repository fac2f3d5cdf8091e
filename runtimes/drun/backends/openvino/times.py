"""Times stay in float32 where a graph is computed in bfloat16, which has 8 bits and would round 999 to 1000.

OpenVINO computes what precedes a sine in bfloat16, too, unless an attribute of the IR forbids it. Its Python interface
cannot set that attribute, so the few operations from the time to the sines make a round trip through IR.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from drun.bundle.artifact import TIME

#: The attribute that OpenVINO's own compression gives to operations that need their precision.
PRECISE = '<rt_info><attribute name="precise" version="0"/></rt_info>'


def keep_times(model: Any, core: Any) -> None:
    """Change an `openvino.Model` so that its sines and cosines of the time, and what precedes them, stay in float32."""
    waves = [operation for operation in model.get_ops() if operation.get_type_name() in ("Sin", "Cos")]
    waves = [wave for wave in waves if _parameters(wave) == {TIME}]
    if not waves:
        return
    for wave in waves:
        for operation in _ancestors(wave):
            if operation.get_type_name() == "Unsqueeze":
                _as_reshape(operation)
    time = model.input(TIME)
    precise = _precise(waves, time.get_node(), core)
    _hand_over(precise.inputs[0], time)
    for wave, result in zip(waves, precise.get_results(), strict=True):
        _hand_over(wave.output(0), result.input_value(0))
    model.validate_nodes_and_infer_types()


def _ancestors(operation: Any) -> list[Any]:
    """An operation and all that it depends on."""
    found: dict[str, Any] = {}
    waiting = [operation]
    while waiting:
        one = waiting.pop()
        if found.setdefault(one.get_name(), one) is one:
            waiting += [value.get_node() for value in one.input_values()]
    return list(found.values())


def _parameters(operation: Any) -> set[str]:
    found = (one for one in _ancestors(operation) if one.get_type_name() == "Parameter")
    return {min(one.output(0).names, default="") for one in found}


def _as_reshape(unsqueeze: Any) -> None:
    """Put a Reshape in the place of an Unsqueeze, as OpenVINO itself would do, but it would lose the attribute."""
    from openvino import opset13

    sides = [-1 if side.is_dynamic else side.get_length() for side in unsqueeze.output(0).partial_shape]
    if sides.count(-1) <= 1:
        reshape = opset13.reshape(unsqueeze.input_value(0), np.array(sides), special_zero=False)
        _hand_over(unsqueeze.output(0), reshape.output(0))


def _precise(waves: list[Any], time: Any, core: Any) -> Any:
    """A separate model from the time to these operations, in which every operation is marked."""
    import openvino

    part = openvino.Model(waves, [time], "times")
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "times.xml"), Path(folder, "times.bin")
        openvino.serialize(part, xml, weights)
        text = re.sub("(<layer [^>]*[^/]>)", rf"\1{PRECISE}", xml.read_text(encoding="utf-8"))
        return core.read_model(model=text.encode(), weights=weights.read_bytes())


def _hand_over(old: Any, new: Any) -> None:
    """Let every operation that reads one value read another one instead."""
    for reader in list(old.get_target_inputs()):
        if reader.get_node().get_type_name() != "Result":
            reader.replace_source_output(new)
