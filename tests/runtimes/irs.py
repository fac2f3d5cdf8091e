"""Bundles as OpenVINO reads them, opened and called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import openvino

from drun.backends.openvino import Runtime
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.files import sha256
from drun.settings import RuntimeOptions


def as_ir(bundle: Bundle, **files: bytes) -> Bundle:
    """The bundle with its ONNX graph as IR; `xml` and `bin` replace what OpenVINO wrote."""
    source = bundle.manifest.artifacts[0]
    model = openvino.Core().read_model(bundle.path / source.files[0].path)
    path = bundle.path / "denoiser.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    for kind, content in files.items():
        path.with_suffix(f".{kind}").write_bytes(content)
    return with_files(bundle, "openvino", "denoiser.xml", "denoiser.bin")


def with_files(bundle: Bundle, kind: str, *names: str) -> Bundle:
    """The bundle whose one artifact is of this format and has these files, rightly hashed."""
    files = tuple(FileEntry(name, sha256(bundle.path / name)) for name in names)
    artifact = replace(bundle.manifest.artifacts[0], format=kind, files=files)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=(artifact,)))


def opened(bundle: Bundle, arithmetic: str = "fp32", **options: Any) -> Runtime:
    return Runtime(bundle, bundle.manifest.artifacts[0], arithmetic, RuntimeOptions(**options))


def inputs(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 3, 8, 8)).astype(np.float32)
    return x, np.full(size, 63, np.float32), rng.integers(0, 10, size)
