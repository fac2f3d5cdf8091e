"""Commands that are suggested can be typed as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

from dtrain.published.suggest import bundle_of, export_command


def test_exporting() -> None:
    assert export_command(Path("a.pt")) == "dexport onnx a.pt"
    command = export_command(Path("my runs/a.pt"), {"process": "sit", "image_size": "32"}, "online")
    assert shlex.split(command) == [
        "dexport", "onnx", "my runs/a.pt", "--set", "process=sit", "--set", "image_size=32", "--weights", "online",
    ]  # fmt: skip


def test_the_bundle_has_the_checkpoints_name() -> None:
    assert bundle_of(Path("runs/my net.pt")) == Path("bundles/my net")
    assert bundle_of(Path("runs/my net.pt"), "online") == Path("bundles/my net-online")
