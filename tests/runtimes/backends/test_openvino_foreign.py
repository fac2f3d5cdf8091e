"""Files that OpenVINO would open as something else, or cannot put into words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from irs import as_ir, opened, with_files

from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError, UserError

#: A TensorFlow graph in words, which OpenVINO reads under any name.
TENSORFLOW = b'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }'
NO_GRAPH = b"\x08\x0a"
NO_IR = r"OpenVINO \S+ cannot open '.*denoiser\.xml': it is damaged, or not openvino$"


def as_onnx(bundle: Bundle, content: bytes) -> Bundle:
    """The bundle with this in place of its ONNX graph."""
    name = bundle.manifest.artifacts[0].files[0].path
    (bundle.path / name).write_bytes(content)
    return with_files(bundle, "onnx", name)


@pytest.mark.parametrize(
    ("kind", "content", "error", "message"),
    [
        ("onnx", TENSORFLOW, BundleError, r"is damaged: it is not an ONNX graph: wire type 6 at byte 1; export again$"),
        ("onnx", b"", BundleError, r"denoiser\.fp32\.onnx' is damaged: cannot mmap an empty file; export again$"),
        ("onnx", NO_GRAPH, BackendUnavailable, r"cannot open '.*denoiser\.fp32\.onnx': it is damaged, or not onnx$"),
        ("openvino", TENSORFLOW, BackendUnavailable, NO_IR),
        ("openvino", b"", BackendUnavailable, NO_IR),
        ("openvino", NO_GRAPH, BackendUnavailable, NO_IR),
    ],
)
def test_no_other_format_is_opened_under_a_files_name(
    make_bundle: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    kind: str,
    content: bytes,
    error: type[UserError],
    message: str,
) -> None:
    bundle = bundles.read(make_bundle())
    with pytest.raises(error, match=message):
        opened(as_ir(bundle, xml=content) if kind == "openvino" else as_onnx(bundle, content))
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_not_text(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle())
    as_ir(bundle)
    content = (bundle.path / "denoiser.xml").read_bytes()
    assert b'type="Convert"' in content
    named = as_ir(bundle, xml=content.replace(b'type="Convert"', b'type="Con\xb7vert"'))
    with pytest.raises(BackendUnavailable, match=r"cannot open '.*denoiser\.xml': .*decode byte 0xb7"):
        opened(named)
