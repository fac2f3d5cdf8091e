import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dexport.lint import check_graph
from drun.errors import ExportError


def graph(operator: str, dtype: type = np.float32, **attributes: int) -> ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    constant = numpy_helper.from_array(np.ones(4, dtype), "scale")
    nodes = [helper.make_node(operator, ["x"], ["out"], **attributes)]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [constant]))


def test_operators_are_counted() -> None:
    assert check_graph(graph("Relu")) == {"Relu": 1}


@pytest.mark.parametrize(
    ("operator", "reason"), [("GroupNormalization", "TensorRT reads it"), ("SpaceToDepth", "channel order")]
)
def test_misread_operators_are_refused(operator: str, reason: str) -> None:
    with pytest.raises(ExportError, match=f"1 {operator}, expected none: .*{reason}"):
        check_graph(graph(operator))


def test_float64_is_refused() -> None:
    with pytest.raises(ExportError, match="float64 values such as 'scale'"):
        check_graph(graph("Relu", np.float64))
