"""Plans in the cache. No GPU deserialises one here: where a test needs that, it says what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drun import cache
from drun.backends.trt import plans
from drun.backends.trt.building import PlanOptions
from drun.backends.trt.engine import deserialized
from drun.backends.trt.profiles import Profile
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.device import cuda
from drun.errors import BackendUnavailable, BundleError
from drun.extras import is_installed

pytestmark = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")

SETTING = {"gpu": "one", "driver": "580", "library": "tensorrt_rtx 1.7"}


def options_of(bundle: Bundle, **changes: Any) -> PlanOptions:
    settings = {"profiles": (Profile(2, 2, 2),), "capabilities": ("SM89",)} | changes
    return PlanOptions(bundle.manifest.artifacts[0].io[:-1], **settings)


def engine_of(bundle: Bundle, setting: dict[str, str] = SETTING, **changes: Any) -> Any:
    return plans.cached_engine(bundle, bundle.manifest.artifacts[0], options_of(bundle, **changes), setting)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each plan that is built; any plan is accepted as it is."""
    sizes: list[int] = []

    def build(*args: Any) -> None:
        real(*args)
        sizes.append(args[2].stat().st_size)

    real = plans.build
    monkeypatch.setattr(plans, "build", build)
    monkeypatch.setattr(plans, "deserialized", lambda content: bytes(content[:8]))
    return sizes


def test_a_plan_is_built_once_for_a_gpu_a_graph_and_options(bundle: Bundle, builds: list[int]) -> None:
    first = engine_of(bundle)
    assert engine_of(bundle) == first
    assert len(builds) == 1
    assert f"TensorRT plan of {bundle.name}" in [entry.what for entry in cache.entries()]
    for key in SETTING:
        engine_of(bundle, SETTING | {key: "another"})
    engine_of(bundle, is_tf32=True)
    engine_of(bundle, profiles=(Profile(4, 4, 4),))
    assert len(builds) == 1 + len(SETTING) + 2


def test_a_plan_that_is_refused_is_built_anew_and_this_is_said(
    bundle: Bundle, builds: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = SETTING | {"gpu": "of this test"}
    engine_of(bundle, setting)
    answers = iter([BackendUnavailable("it was built for SM80"), "an engine"])

    def answer(_: Any) -> Any:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(plans, "deserialized", answer)
    assert engine_of(bundle, setting) == "an engine"
    assert len(builds) == 2
    assert "in the cache is refused, and built anew: it was built for SM80" in capsys.readouterr().err


def test_a_graph_that_was_changed_is_not_built(bundle: Bundle, builds: list[int]) -> None:
    with (bundle.path / "denoiser.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="is damaged"):
        engine_of(bundle)
    assert builds == []


def reason_of(plan: bytes) -> str:
    with pytest.raises(BackendUnavailable) as refused:
        deserialized(plan)
    return str(refused.value)


def test_tensorrt_says_why_it_refuses_what_is_no_plan() -> None:
    assert "Serialization" in reason_of(bytes(1000))


@pytest.mark.skipif(cuda.why_none() is None, reason="there is a GPU, which may take it")
def test_tensorrt_says_why_it_refuses_a_real_plan_without_a_gpu(tmp_path: Path, bundle: Bundle) -> None:
    plans.build(bundle.path / "denoiser.fp32.onnx", options_of(bundle), tmp_path / "plan", silent)
    assert "CUDA driver" in reason_of((tmp_path / "plan").read_bytes())
