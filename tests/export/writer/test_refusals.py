"""What goes wrong while an artifact is made: a full disk, and a source that names other files. Nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from exporting import content

from dexport.writer.add import add_artifact
from dexport.writer.staging import Order
from drun.bundle import reading as bundles
from drun.console import silent
from drun.errors import BundleError
from drun.files import sha256

#: A command of dexport in a process whose files may have so many bytes.
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from dexport.cli import main
main()
"""


@pytest.fixture
def path(onnx_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(onnx_bundle, tmp_path / "bundle")


@pytest.mark.parametrize("target", ["openvino", "pt2"])
def test_a_full_disk_is_one_sentence(path: Path, tiny_checkpoint: Path, target: str) -> None:
    before = content(path.parent)
    # Room for the record of exports and for small files, but not for the weights.
    source = [path] if target == "openvino" else [tiny_checkpoint, "-o", path, "--quick"]
    command = [sys.executable, "-c", LIMITED, "20000", target, *map(str, source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-2000:]
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: ")
    assert "cannot write" in said
    assert "Traceback" not in done.stderr
    assert content(path.parent) == before


def test_a_source_whose_weights_lie_elsewhere(path: Path, tmp_path: Path) -> None:
    bundle = bundles.read(path)
    artifact = bundle.manifest.artifacts[0]
    graph = path / artifact.files[0].path
    model = onnx.load(graph)
    onnx.save_model(model, graph, save_as_external_data=True, location="secret", size_threshold=0)
    shutil.move(path / "secret", tmp_path / "secret")
    model = onnx.load(graph, load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
        entry.value = "../secret" if entry.key == "location" else entry.value
    onnx.save_model(model, graph)
    listed = replace(artifact, files=(replace(artifact.files[0], sha256=sha256(graph)),))
    (path / "manifest.json").write_text(replace(bundle.manifest, artifacts=(listed,)).to_json())
    before = content(tmp_path)
    with pytest.raises(BundleError, match=r"names the file '\.\./secret', which the manifest does not list: refused"):
        add_artifact(path, Order("openvino"), silent)
    assert content(tmp_path) == before
