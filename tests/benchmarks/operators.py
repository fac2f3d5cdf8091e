"""Counts the operators of ONNX files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)
