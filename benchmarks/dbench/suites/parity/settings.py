"""The settings of `dbench parity`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option

SUITE = "parity"


@dataclass(frozen=True)
class ParitySettings:
    bundle: Path = argument("Bundle folder.")
    device: str | None = option(None, "Device: cpu, cuda, webgpu or mps (default: each backend's first that is here).")
    trust: bool = option(False, "Open artifacts that can execute code, such as a .pt2.")
