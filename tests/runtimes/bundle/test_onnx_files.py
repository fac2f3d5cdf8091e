"""Files that a graph names are found wherever it names them; anything else is a message or an error."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.bundle.onnx_files import external_files


def tensor(name: str) -> onnx.TensorProto:
    made = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    made.external_data.add(key="offset", value="0")
    made.external_data.add(key="location", value=name)
    return made


def graph_of(*tensors: onnx.TensorProto) -> onnx.GraphProto:
    return onnx.GraphProto(name="g", initializer=tensors)


def test_every_place_that_holds_tensors(tmp_path: Path) -> None:
    inside = onnx.TensorProto(data_type=1, raw_data=bytes(99))
    model = onnx.ModelProto(ir_version=9, graph=graph_of(tensor("a"), inside))
    model.graph.sparse_initializer.add(values=tensor("b"), indices=tensor("c"))
    node = model.graph.node.add(op_type="If")
    node.attribute.add(name="x", t=tensor("d"))
    node.attribute.add(name="x", g=graph_of(tensor("e")))
    node.attribute.add(name="x", tensors=[tensor("f")], graphs=[graph_of(tensor("g"))])
    node.attribute.add(name="x", sparse_tensor=onnx.SparseTensorProto(values=tensor("h")))
    node.attribute.add(name="x", sparse_tensors=[onnx.SparseTensorProto(indices=tensor("i"))])
    model.functions.add(name="f").node.add(op_type="X").attribute.add(name="x", t=tensor("j"))
    model.functions.add(name="f").attribute_proto.add(name="x", t=tensor("k"))
    model.training_info.add(initialization=graph_of(tensor("l")), algorithm=graph_of(tensor("../m")))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert external_files(tmp_path / "a.onnx") == {*map(PurePosixPath, "abcdefghijkl"), PurePosixPath("../m")}


@pytest.mark.parametrize("content", [b"hello", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a" + b"\xff" * 20, b"\x0b"])
def test_what_is_no_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="it is not an ONNX graph"):
        external_files(tmp_path / "a.onnx")


@settings(max_examples=200, deadline=None)
@given(content=st.binary(min_size=1, max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with suppress(ValueError):
        external_files(path)
