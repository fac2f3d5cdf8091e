"""What our adapter uses of TensorRT is in the real bindings, and in those of tensorrt_rtx, with one signature."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trt_bindings

import drun.backends.trt
from drun.backends.trt.profiles import Profile
from drun.bundle.artifact import Tensor
from drun.extras import is_installed

SCRIPT = Path(trt_bindings.__file__)
ADAPTER = Path(drun.backends.trt.__file__).parent
#: class -> what we use of it
USED = {
    "Builder": ("__init__", "create_network", "create_builder_config", "create_optimization_profile",
                "build_serialized_network"),
    "OnnxParser": ("__init__", "parse_from_file", "num_errors", "get_error"),
    "ParserError": ("desc", "node_name", "node_operator"),
    "IBuilderConfig": ("set_flag", "clear_flag", "add_optimization_profile", "progress_monitor", "create_timing_cache",
                       "set_timing_cache", "get_timing_cache"),
    "IOptimizationProfile": ("set_shape",),
    "ITimingCache": ("serialize",),
    "BuilderFlag": ("TF32",),
    "ILogger": ("__init__", "log", "ERROR", "INTERNAL_ERROR"),
    "IProgressMonitor": ("__init__", "phase_start", "step_complete", "phase_finish"),
    "Runtime": ("__init__", "deserialize_cuda_engine"),
    "ICudaEngine": ("num_io_tensors", "get_tensor_name", "get_tensor_dtype", "get_tensor_shape",
                    "get_tensor_profile_shape", "num_optimization_profiles", "create_execution_context",
                    "get_device_memory_size_for_profile_v2"),
    "ExecutionContextAllocationStrategy": ("ON_PROFILE_CHANGE",),
    "IExecutionContext": ("set_optimization_profile_async", "set_input_shape", "set_tensor_address", "infer_shapes",
                          "execute_async_v3"),
}  # fmt: skip
#: Functions and constants of the module.
NAMES = ("nptype", "int64")
#: What only tensorrt_rtx has; the adapter asks before it uses them.
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability", "ComputeCapability"}

#: Attributes of our own objects that have the name of one of TensorRT's.
OWN = {"name", "shape", "dtype", "errors", "inputs", "engine"}

pytestmark = pytest.mark.skipif(
    not (is_installed("tensorrt_rtx") and is_installed("tensorrt_bindings") and shutil.which("gcc")),
    reason="needs tensorrt_rtx, the bindings of TensorRT and gcc",
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    words = [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("stubs"))]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def rtx() -> Any:
    import tensorrt_rtx

    return trt_bindings.described(tensorrt_rtx)


def test_both_have_what_is_used(full: Any, rtx: Any) -> None:
    for offered in (full, rtx):
        for name, members in USED.items():
            assert set(members) - set(offered["members"][name]) == set(), name
        assert set(NAMES) <= set(offered["names"])


def test_both_have_one_signature_for_it(full: Any, rtx: Any) -> None:
    """A call of the full TensorRT may have more forms."""
    compared = 0
    for name, members in USED.items():
        for member in members:
            one, other = (offered["signatures"].get(f"{name}.{member}", []) for offered in (full, rtx))
            forms = {form.replace("tensorrt_rtx", "tensorrt") for form in other}
            assert forms & set(one) or not (forms or one), f"{name}.{member}"
            compared += len(forms)
    assert compared > 20


def test_nothing_else_is_used(full: Any, rtx: Any) -> None:
    """Every attribute in our code that TensorRT has, too, is listed above."""
    known = {member for offered in (full, rtx) for members in offered["members"].values() for member in members}
    listed = {member for members in USED.values() for member in members} | set(USED) | set(NAMES) | RTX_ONLY
    found = set()
    for path in ADAPTER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    python = {one for kind in (object, str, list, dict, Path, Profile, Tensor) for one in dir(kind)} | OWN
    assert {one for one in found & known if not one.startswith("__")} - listed - python == set()
