"""Graphs that OpenVINO must not or cannot open are refused in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from irs import as_ir, inputs, opened, with_files

from drun.backends import null
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError


def ir_text(bundle: Bundle) -> str:
    as_ir(bundle)
    return (bundle.path / "denoiser.xml").read_text()


def test_an_ir_of_a_newer_openvino(bundle: Bundle) -> None:
    text = re.sub(r'(name="OpenVINO Runtime" value=")\d+', r"\g<1>2099", ir_text(bundle))
    newer = re.sub(r'version="opset\d+"', 'version="opset99"', text)
    with pytest.raises(
        BackendUnavailable, match=r"denoiser.xml' is of OpenVINO 2099\.\S+, this is 20\S+: pip install -"
    ):
        opened(as_ir(bundle, xml=newer.encode()))
    # What it can read is read, whatever wrote it.
    opened(as_ir(bundle, xml=text.encode())).predict(*inputs(1)[:2])


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "format": lambda text: text.replace('version="11"', 'version="99"', 1),
    "extension": lambda text: text.replace('type="Gather"', 'type="Evil"').replace('"opset8"', '"evil.so"'),
    "offset": lambda text: re.sub(r'offset="\d+"', 'offset="18446744073709551000"', text),
    "size": lambda text: re.sub(r'size="\d+"', 'size="99999999999"', text),
    "shape": lambda text: re.sub(r'shape="(\d)', r'shape="9999\1', text),
    "edges": lambda text: re.sub(r'to-layer="\d+"', 'to-layer="2"', text),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ir_is_one_sentence(bundle: Bundle, damage: str) -> None:
    text = ir_text(bundle)
    assert DAMAGES[damage](text) != text
    with pytest.raises(BackendUnavailable, match=r"^OpenVINO \S+ cannot open '.*denoiser.xml': [^\n]+$") as caught:
        opened(as_ir(bundle, xml=DAMAGES[damage](text).encode()))
    assert ".cpp" not in str(caught.value).partition("xml':")[2]


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_weights_of_another_size(bundle: Bundle, content: bytes) -> None:
    with pytest.raises(BackendUnavailable, match=r"cannot open '.*denoiser.xml': Incorrect weights in bin file"):
        opened(as_ir(bundle, bin=content))


def test_an_ir_may_not_name_entities_or_libraries(bundle: Bundle, tmp_path: Path) -> None:
    """Neither is followed: a file that would be opened by it is not there, and the network computes as before."""
    text = ir_text(bundle)
    head, _, body = text.partition("?>")
    library = tmp_path / "evil.so"
    entity = f'{head}?><!DOCTYPE net [<!ENTITY x SYSTEM "file://{library}">]>{body}'
    named = entity.replace("<rt_info>", f'<rt_info><extension value="{library}"/><path value="{library}"/>', 1)
    call = inputs(2)[:2]
    expected = null.Runtime(bundle).predict(*call)
    np.testing.assert_allclose(opened(as_ir(bundle, xml=named.encode())).predict(*call), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("openvino", ["denoiser.xml"]), ("openvino", ["denoiser.bin", "denoiser.xml"]), ("onnx", ["denoiser.xml"]),
     ("openvino", ["denoiser.fp32.onnx"])],
)  # fmt: skip
def test_a_file_that_would_open_another_unasked_is_refused(bundle: Bundle, kind: str, names: list[str]) -> None:
    as_ir(bundle)
    with pytest.raises(BundleError, match=rf"the artifact {kind}-fp32 got the files .*, expected \.(xml|onnx)"):
        opened(with_files(bundle, kind, *names))


def test_weights_in_a_file_that_is_not_listed_are_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "denoiser.fp32.onnx")
    onnx.save(model, bundle.path / "denoiser.fp32.onnx", save_as_external_data=True, location="w", size_threshold=100)
    with pytest.raises(BundleError, match=r"names the file 'w', which the manifest does not list: refused"):
        opened(with_files(bundle, "onnx", "denoiser.fp32.onnx"))
    backend, call = opened(with_files(bundle, "onnx", "denoiser.fp32.onnx", "w")), inputs(2)[:2]
    np.testing.assert_allclose(backend.predict(*call), null.Runtime(bundle).predict(*call), rtol=1e-5, atol=1e-6)


def test_another_network_than_the_manifest_says_is_refused(bundle: Bundle) -> None:
    text = ir_text(bundle)
    with pytest.raises(BundleError, match=r"is not the manifest's network: '(out|noise)' got .*, expected "):
        opened(as_ir(bundle, xml=text.replace('names="out"', 'names="noise"').encode()))
    artifact = bundle.manifest.artifacts[0]
    static = replace(bundle, manifest=replace(bundle.manifest, artifacts=(replace(artifact, batch=(4, 4)),)))
    with pytest.raises(BundleError, match=r"is not the manifest's network: "):
        opened(as_ir(static))


def test_a_changed_file_is_not_opened(bundle: Bundle) -> None:
    bundle = as_ir(bundle)
    (bundle.path / "denoiser.bin").write_bytes(bytes(99))
    with pytest.raises(BundleError, match=r"denoiser.bin' is damaged: sha256 got"):
        opened(bundle)
