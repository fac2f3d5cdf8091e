"""A backend costs one file: it is listed, checked and drawn with, and changes nothing that existed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from copied import CopiedPackages, files_to_add

from drun.bundle import reading as bundles

#: Its name comes first in the alphabet, and it opens all that ONNX Runtime and OpenVINO open.
BACKEND = '''
"""OpenVINO once more, under another name."""

from drun.backends import openvino


class Runtime(openvino.Runtime):
    summary = "the same networks, opened by a backend of its own"
    nicknames = {}

    def describe(self):
        return "Another on CPU"
'''


def test_a_backend_file_is_all(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    packages = CopiedPackages(tmp_path / "copied")
    bundle = make_bundle(conditional=True)
    drawn = ["drun", "--bundle", str(bundle), "--steps", "4", "-n", "3", "--seed", "4", "--cfg", "2", "--save-raw"]
    packages.run([*drawn, "--out", "before"])
    packages.add("runtimes/drun/backends/aaa.py", BACKEND)
    assert len(packages.added) == files_to_add("A backend")
    said = packages.run(
        ["drun", "backends"],
        ["dexport", "openvino", str(bundle)],
        ["drun", "check", str(bundle), "--all"],
        [*drawn, "--out", "after"],
        [*drawn, "--backend", "aaa", "--out", "own"],
    )
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert any(line.startswith("aaa ready the same networks, opened by a backend of its own") for line in lines)
    for artifact in ("onnx-fp32", "openvino-fp32"):
        checks = [line for line in lines if line.startswith(f"aaa {artifact} ") and "bf16" not in line]
        assert len(checks) == 1
        assert "FAILED" not in checks[0]
    backend_of = {
        name: json.loads((packages.folder / name / "run.json").read_text())["settings"]["backend"]
        for name in ("before", "after", "own")
    }
    assert backend_of == {"before": "ort", "after": "ort", "own": "aaa"}
    before, after, own = (np.load(packages.folder / name / "raw.npz")["x"] for name in backend_of)
    assert before.tobytes() == after.tobytes()
    np.testing.assert_allclose(own, after, rtol=1e-4, atol=1e-5)
    proven = bundles.read(bundle).manifest.artifacts[1].parity
    assert proven is not None
    assert proven["backend"].startswith("OpenVINO")
