"""What the rows of `dbench coreml` are called."""

from __future__ import annotations

SIZE, SECONDS, MEMORY = "size", "export", "memory"
CALL, TRAJECTORY, SLOWER, VALUES = "call", "trajectory", "executor", "executor memory"


def row_name(package: str, what: str) -> str:
    return f"{package}, {what}"
