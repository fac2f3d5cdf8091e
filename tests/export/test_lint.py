from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from dexport.lint import check_graph
from dexport.precision import lowered
from dexport.targets import Part
from dexport.targets import onnx as onnx_target
from drun.bundle.artifact import TOLERANCES, Artifact, Tensor
from drun.errors import ExportError


def graph(operator: str, dtype: type = np.float32, **attributes: int) -> onnx_ir.Graph:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    constant = numpy_helper.from_array(np.ones(4, dtype), "scale")
    nodes = [helper.make_node(operator, ["x"], ["out"], **attributes)]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [constant]))
    return onnx_ir.serde.deserialize_model(model).graph


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


def test_a_float64_value_inside_is_refused() -> None:
    inner = graph("Cast", to=TensorProto.DOUBLE)
    inner.node(0).outputs[0].dtype = onnx_ir.DataType.DOUBLE
    with pytest.raises(ExportError, match="float64 values such as 'out'"):
        check_graph(inner)


# --- graphs in low precision


class Net(nn.Module):
    """Two layers with a norm between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.norm(self.first(x)).relu())
        return out


class Stray(nn.Module):
    """A layer in float32 between casts, as an oversight would leave it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x.float()).to(torch.bfloat16)
        return out


def exported(low: nn.Module, folder: Path) -> Artifact:
    io = (Tensor("x", "float32", ("N", 6), ""), Tensor("out", "float32", ("N", 6), ""))
    return onnx_target.written(Part("net.bf16", low, low, "bf16", io, (2, 2), TOLERANCES["bf16"]), folder)


def test_casts_of_islands_and_layers_are_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = exported(lowered(Net(), "bf16"), tmp_path)
    assert artifact.target == {"opset": 22, "fp32": ["norm"]}
    # Into the first layer, into and out of the norm, and out of the network.
    count = "4 casts and 0 products in fp32, each where it is expected"
    assert capsys.readouterr().out == f"net.bf16 keeps in fp32 norm: {count}\n"


def test_a_stray_float32_layer_is_refused(tmp_path: Path) -> None:
    low = lowered(Net(), "bf16")
    low.last = Stray(nn.Linear(6, 6))
    with pytest.raises(ExportError, match=r"module 'last' has the Cast '.*' in bfloat16 to float, expected none outsi"):
        exported(low, tmp_path)
    low.last = nn.Sequential(low.norm, nn.Linear(6, 6))
    low.last[0].out = torch.float32  # an island that casts, as it may, and does not cast back
    with pytest.raises(ExportError, match=r"module 'last\.1' has the (Gemm|MatMul) '.*' in float32, expected none"):
        exported(low, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_stray_cast_is_refused(tmp_path: Path) -> None:
    class Careful(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x.float()).to(x.dtype)

    low = lowered(Net(), "bf16")
    low.first = nn.Sequential(low.first, Careful())
    with pytest.raises(ExportError, match=r"module 'first\.1' has the Cast '.*' in bfloat16 to float, expected none"):
        exported(low, tmp_path)
