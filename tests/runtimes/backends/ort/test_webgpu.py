"""WebGPU: what is said without it, and the real provider on a Vulkan that a processor computes."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from manifest_files import edit
from openings import on

from drun.backends import ort
from drun.backends.ort import webgpu
from drun.bundle.artifact import Tolerance
from drun.bundle.reading import Bundle
from drun.errors import DeviceUnavailable
from drun.extras import is_installed
from drun.files import sha256

#: SwiftShader, as Debian's Chromium brings it.
DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
HAS_VULKAN = DRIVER.is_file() and ctypes.util.find_library("vulkan") is not None and is_installed(webgpu.PLUGIN)
needs_vulkan = pytest.mark.skipif(not HAS_VULKAN, reason="needs the plugin, libvulkan and SwiftShader")


def drun(*words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, because the provider stays registered in one."""
    own = {"VK_ICD_FILENAMES": str(DRIVER), "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1"}
    command = [sys.executable, "-m", "drun", *map(str, words)]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)


@needs_vulkan
def test_the_golden_file_holds_on_webgpu(bundle: Bundle) -> None:
    done = drun("check", bundle.path, "--backend", "ort", "--device", "webgpu", "--json")
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["passed"]
    assert {check["tolerance"] for check in target["checks"] if check["name"].startswith("call")} == {2e-4}


@needs_vulkan
def test_a_gpu_without_fp16(bundle: Bundle) -> None:
    """SwiftShader is one."""
    path = bundle.path / bundle.manifest.artifacts[0].files[0].path
    graph = onnx.load(path)
    cast = [
        onnx.helper.make_node("Cast", ["x"], ["half"], to=onnx.TensorProto.FLOAT16),
        onnx.helper.make_node("Mul", ["half", "half"], ["square"]),
        onnx.helper.make_node("Cast", ["square"], ["wide"], to=onnx.TensorProto.FLOAT),
    ]
    graph.graph.node[-1].output[0] = "before"
    graph.graph.node.extend([*cast, onnx.helper.make_node("Add", ["before", "wide"], ["out"])])
    onnx.save(graph, path)
    edit(bundle.path, lambda manifest: manifest["artifacts"][0]["files"][0].update(sha256=sha256(path)))
    done = drun("check", bundle.path, "--backend", "ort", "--device", "webgpu")
    assert done.returncode == 1
    assert "--device got webgpu: this GPU has no fp16, which the graph needs: use --precision fp32" in done.stderr


def test_without_the_plugin(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webgpu, "is_installed", lambda name: False)
    message = r"--device got webgpu: its plugin is not installed: pip install 'dexport\[webgpu\]'"
    with pytest.raises(DeviceUnavailable, match=message):
        on("ort", bundle, device="webgpu")


def test_a_machine_without_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webgpu, "is_installed", lambda name: True)
    monkeypatch.setattr(webgpu, "_devices", lambda: [])
    with pytest.raises(DeviceUnavailable, match="--device got webgpu: there is no GPU that Vulkan, Metal or"):
        on("ort", bundle, device="webgpu")


def test_its_arithmetics(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifacts[0]
    assert ort.Runtime.arithmetics(artifact, "webgpu") == ("fp32",)


def test_single_calls_have_a_wider_tolerance() -> None:
    network = webgpu.OnWebGpu.__new__(webgpu.OnWebGpu)
    assert network.tolerance(Tolerance(1e-5, 1e-3)) == Tolerance(2e-4, 1e-3)
    assert network.tolerance(Tolerance(1e-2, 5e-2)) == Tolerance(1e-2, 5e-2)
