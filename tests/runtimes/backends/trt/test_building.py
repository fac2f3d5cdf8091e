"""Real plans, by tensorrt_rtx, which needs no GPU for them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import onnx
import pytest

from drun.backends.trt.building import PlanOptions, build, capabilities
from drun.backends.trt.profiles import Profile, profiles_for
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BackendUnavailable
from drun.extras import is_installed

pytestmark = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")


def options_of(bundle: Bundle, **changes: Any) -> PlanOptions:
    artifact = bundle.manifest.artifacts[0]
    settings = {"profiles": profiles_for(artifact.batch), "capabilities": ("SM89",)} | changes
    return PlanOptions(artifact.io[:-1], **settings)


def graph_of(bundle: Bundle) -> Path:
    return bundle.path / bundle.manifest.artifacts[0].files[0].path


def test_a_plan_is_built_with_progress(bundle: Bundle, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    build(graph_of(bundle), options_of(bundle), tmp_path / "plan", lambda *args: shown.append(args))
    assert (tmp_path / "plan").stat().st_size > 10_000
    assert {what.partition(":")[0] for what, _, _ in shown} == {"TensorRT"}
    assert all(0 <= done <= total for _, done, total in shown)
    assert shown[-1][1] == shown[-1][2]


def test_an_interrupt_stops_a_build(bundle: Bundle, tmp_path: Path) -> None:
    """It is raised after TensorRT has returned, for no exception may pass through it."""

    calls = iter([signal.SIGINT])

    def interrupted(*_: Any) -> None:
        for number in calls:  # once
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        build(graph_of(bundle), options_of(bundle), tmp_path / "plan", interrupted)
    assert not (tmp_path / "plan").exists()
    build(graph_of(bundle), options_of(bundle), tmp_path / "plan", silent)  # and the next one is built


def test_all_errors_of_the_parser_are_shown(bundle: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(graph_of(bundle))
    graph.graph.node[-1].op_type = "Nonsense"
    onnx.save(graph, tmp_path / "graph.onnx")
    with pytest.raises(BackendUnavailable, match=r"TensorRT does not read '.*graph.onnx': .*Nonsense"):
        build(tmp_path / "graph.onnx", options_of(bundle), tmp_path / "plan", silent)


def test_a_file_that_is_no_graph(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"hello")
    with pytest.raises(BackendUnavailable, match=r"TensorRT builds no plan of '.*graph.onnx': .* at least one output"):
        build(tmp_path / "graph.onnx", options_of(bundle), tmp_path / "plan", silent)


def test_external_data_that_is_missing(bundle: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(graph_of(bundle))
    onnx.save(graph, tmp_path / "graph.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    with pytest.raises(BackendUnavailable, match=r"TensorRT does not read '.*graph.onnx': .*weights"):
        build(tmp_path / "graph.onnx", options_of(bundle), tmp_path / "plan", silent)


def test_a_profile_that_is_none(bundle: Bundle, tmp_path: Path) -> None:
    options = options_of(bundle, profiles=(Profile(8, 4, 2),))
    with pytest.raises(BackendUnavailable, match=r"TensorRT (refuses calls of|builds no plan)"):
        build(graph_of(bundle), options, tmp_path / "plan", silent)


def test_what_can_be_built_without_a_gpu() -> None:
    assert {"SM80", "SM86", "SM89", "SM120"} <= set(capabilities())
    assert "SM75" not in capabilities()
