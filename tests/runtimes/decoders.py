"""Bundles of latents with a decoder that needs no PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from drun.bundle import reading as bundles
from drun.bundle.artifact import DECODER_TOLERANCES, Artifact, FileEntry, Tensor
from drun.bundle.manifest import DecoderEntry
from drun.bundle.reading import Bundle
from drun.files import sha256

STATE, IMAGE = (3, 8, 8), (3, 16, 16)


def decoded(z: np.ndarray) -> np.ndarray:
    """What the graph below computes: each latent four times, halved."""
    return 0.5 * np.tile(z, (1, 1, 2, 2))


def with_decoder(path: Path, batch: tuple[int, int]) -> Bundle:
    """The bundle at `path` with a decoder of its latents, for `batch` of them at a time."""
    size = batch[0] if batch[0] == batch[1] else "N"
    constants = [
        numpy_helper.from_array(np.array([1, 1, 2, 2]), "repeats"),
        numpy_helper.from_array(np.float32(0.5), "half"),
    ]
    node = helper.make_node
    nodes = [node("Tile", ["z", "repeats"], ["tiled"]), node("Mul", ["tiled", "half"], ["image"])]
    z, image = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, *shape])
        for name, shape in (("z", STATE), ("image", IMAGE))
    )
    graph = helper.make_graph(nodes, "decoder", [z], [image], constants)
    file = path / "decoder.fp32.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), file)
    io = Tensor("z", "float32", ("N", *STATE), "latents"), Tensor("image", "float32", ("N", *IMAGE), "images")
    files = (FileEntry(file.name, sha256(file)),)
    artifact = Artifact("onnx", "fp32", io, files, batch, {}, {}, DECODER_TOLERANCES["fp32"])
    bundle = bundles.read(path)
    return replace(bundle, manifest=replace(bundle.manifest, decoder=DecoderEntry(IMAGE, (artifact,))))
