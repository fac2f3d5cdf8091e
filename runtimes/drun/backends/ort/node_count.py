"""Which provider computed the nodes of a graph: those that fell to the processor cost copies in every call."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

CPU = "CPUExecutionProvider"
#: The nodes that ONNX Runtime adds, to copy between the processor and a device.
COPIES = ("MemcpyFromHost", "MemcpyToHost")


class NodeCount:
    """Profiles the first call of a session, which tells where its nodes are computed.

    settings: `onnxruntime.SessionOptions`, before the session is made.
    """

    def __init__(self, settings: Any) -> None:
        self.folder = tempfile.TemporaryDirectory()
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(self.folder.name) / "profile")
        self.nodes: Counter[tuple[str, str]] | None = None  # (provider, operator) -> how many

    def note(self, session: Any) -> None:
        """After a call: the first one ends the profile."""
        if self.nodes is None:
            self.nodes = read(Path(session.end_profiling()))
            self.folder.cleanup()

    def describe(self) -> str | None:
        """The nodes on the processor and the copies, in words; None before the first call."""
        if self.nodes is None:
            return None
        strays = [(name, count) for (provider, name), count in self.nodes.items() if provider == CPU]
        copies = sum(count for (_, name), count in self.nodes.items() if name in COPIES)
        named = ", ".join(f"{name} {count}" for name, count in sorted(strays) if name not in COPIES)
        on_cpu = sum(count for name, count in strays if name not in COPIES)
        return f"{on_cpu} nodes on the processor{f' ({named})' if named else ''}, {copies} copies between"


def read(path: Path) -> Counter[tuple[str, str]]:
    """(provider, operator) -> how many nodes, from a profile of ONNX Runtime."""
    events = json.loads(path.read_bytes())
    return Counter((one["args"]["provider"], one["args"]["op_name"]) for one in events if _is_node(one))


def _is_node(event: Any) -> bool:
    return bool(event.get("cat") == "Node" and {"provider", "op_name"} <= event.get("args", {}).keys())
