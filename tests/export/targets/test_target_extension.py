"""A target of our own costs one target file and, if no backend opens its format, one backend file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from copied import CopiedPackages, files_to_add
from exporting import FULL_CHECKS

from drun.bundle import reading as bundles

PLUGINS = Path(__file__).parents[1] / "plugins"
#: Two images by the backend that is chosen unasked.
SAMPLE = ["drun", "--bundle", "tiny", "--steps", "3", "-n", "2", "--out"]


def test_a_target_file_and_a_backend_file_are_all(onnx_bundle: Path, tmp_path: Path) -> None:
    packages = CopiedPackages(tmp_path)
    shutil.copytree(onnx_bundle, tmp_path / "tiny")
    held = bundles.read(tmp_path / "tiny").manifest
    before = packages.run(["drun", "backends"], [*SAMPLE, "before"])
    assert "mirror" not in before
    for package in ("export/dexport/targets", "runtimes/drun/backends"):
        packages.add(f"{package}/mirror.py", (PLUGINS / Path(package).name / "mirror.py").read_text(encoding="utf-8"))
    assert len(packages.added) == files_to_add("A target") + files_to_add("A backend")
    said = packages.run(
        ["dexport", "--help"], ["dexport", "mirror", "tiny"], ["drun", "backends"], ["drun", "check", "tiny", "--all"],
        [*SAMPLE, "after"], [*SAMPLE, "mirrored", "--backend", "mirror"],
    )  # fmt: skip
    checks = f"{FULL_CHECKS}/{FULL_CHECKS}"
    for words in (
        "Copy the ONNX graph into a folder", "added mirror-fp32", "kept onnx-fp32", "a mirror of ONNX Runtime",
        f"ort onnx-fp32 {checks}", f"mirror mirror-fp32 {checks}",
    ):  # fmt: skip
        assert words in " ".join(said.split())
    now = bundles.read(tmp_path / "tiny").manifest
    assert (now.artifacts[:1], now.golden, now.model) == (held.artifacts, held.golden, held.model)
    assert [artifact.id for artifact in now.artifacts] == ["onnx-fp32", "mirror-fp32"]
    images = [np.load(tmp_path / name / "samples.npz")["arr_0"] for name in ("before", "after", "mirrored")]
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])
    assert '"backend": "ort"' in (tmp_path / "after" / "run.json").read_text()
