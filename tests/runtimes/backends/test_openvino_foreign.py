"""Files that OpenVINO would open as something else, or cannot put into words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openvino
import pytest

from drun.backends.openvino import Runtime
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, UserError
from drun.files import sha256

#: A TensorFlow graph in words, which OpenVINO reads under any name.
TENSORFLOW = b'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }'


def opened(bundle: Bundle, kind: str, *paths: Path) -> None:
    files = tuple(FileEntry(path.name, sha256(path)) for path in paths)
    artifact = replace(bundle.manifest.artifacts[0], format=kind, files=files)
    Runtime(replace(bundle, manifest=replace(bundle.manifest, artifacts=(artifact,))), artifact, "fp32")


def ir_of(bundle: Bundle) -> tuple[Path, Path]:
    paths = bundle.path / "denoiser.xml", bundle.path / "denoiser.bin"
    model = openvino.Core().read_model(bundle.path / bundle.manifest.artifacts[0].files[0].path)
    openvino.save_model(model, paths[0], compress_to_fp16=False)
    return paths


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("content", [TENSORFLOW, b"", b"\x08\x0a"], ids=["tensorflow", "empty", "of no graph"])
def test_no_other_format_is_opened_under_a_files_name(
    make_bundle: Callable[..., Path], capfd: pytest.CaptureFixture[str], kind: str, content: bytes
) -> None:
    bundle = bundles.read(make_bundle())
    paths = ir_of(bundle) if kind == "openvino" else (bundle.path / "denoiser.fp32.onnx",)
    paths[0].write_bytes(content)
    with pytest.raises(UserError, match=r"denoiser\S* .*|denoiser"):
        opened(bundle, kind, *paths)
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_not_text(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle())
    paths = ir_of(bundle)
    content = paths[0].read_bytes()
    assert b'type="Cast' in content or b'type="Convert"' in content
    paths[0].write_bytes(content.replace(b'type="Convert"', b'type="Con\xb7vert"'))
    with pytest.raises(BackendUnavailable, match=r"cannot open '.*denoiser\.xml': .*decode byte 0xb7"):
        opened(bundle, "openvino", *paths)
