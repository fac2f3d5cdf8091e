"""Where the nodes of a profile were computed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from drun.backends.ort.node_count import NodeCount, read
from drun.backends.ort.session import settings_of

EVENTS = [
    {"cat": "Session", "name": "model_loading"},
    {"cat": "Node", "name": "fence_before", "args": {"op_name": "Conv"}},
    *({"cat": "Node", "args": {"op_name": "Conv", "provider": "CUDAExecutionProvider"}} for _ in range(3)),
    *({"cat": "Node", "args": {"op_name": "Shape", "provider": "CPUExecutionProvider"}} for _ in range(2)),
    {"cat": "Node", "args": {"op_name": "Cast", "provider": "CPUExecutionProvider"}},
    {"cat": "Node", "args": {"op_name": "MemcpyToHost", "provider": "CUDAExecutionProvider"}},
]


def test_a_profile_is_counted(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps(EVENTS))
    nodes = read(tmp_path / "profile.json")
    assert nodes["CUDAExecutionProvider", "Conv"] == 3
    count = NodeCount(settings_of(1))
    count.nodes = nodes
    assert count.describe() == "3 nodes on the processor (Cast 1, Shape 2), 1 copies between"
    count.nodes = Counter({("CUDAExecutionProvider", "Conv"): 3})
    assert count.describe() == "0 nodes on the processor, 0 copies between"
