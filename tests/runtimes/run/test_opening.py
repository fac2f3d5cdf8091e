"""What is opened: chosen by backend, arithmetic and artifact, and refused in a sentence that says what can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openings import by, on

from drun import backends
from drun.backends import null, ort
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES, Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.diffusion.guidance import with_guidance
from drun.diffusion.loop import Observer
from drun.diffusion.samplers import step_table
from drun.errors import BackendUnavailable, BundleError, ConfigError
from drun.run.opening import (
    Candidate,
    Opened,
    candidates,
    choose,
    choose_with_device,
    decoder_candidate,
    open_candidate,
)
from drun.run.opening.picks import Pick, remember
from drun.settings import RuntimeOptions


def with_artifacts(bundle: Bundle, *artifacts: Artifact) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=artifacts))


def graph(bundle: Bundle, precision: str) -> Artifact:
    return replace(bundle.manifest.artifacts[0], precision=precision, tolerance=TOLERANCES[precision])


# --- choosing


def test_the_preferred_backend_and_the_first_artifact_are_chosen(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifacts[0]
    assert choose(bundle) == Candidate("ort", artifact, "fp32")
    assert choose(bundle, "ort", "fp32", "onnx-fp32") == choose(bundle)
    assert choose(bundle, "null") == Candidate("null", None, "fp32")


def test_every_artifact_is_a_candidate_of_every_backend_that_can_open_it(bundle: Bundle) -> None:
    both = with_artifacts(bundle, *bundle.manifest.artifacts, graph(bundle, "fp16"))
    found = candidates(both)
    of_ort = [one for one in found if one.backend == "ort"]
    assert [one.name for one in of_ort] == ["ort onnx-fp32", "ort onnx-fp16"]
    assert found[: len(of_ort)] == of_ort  # the preferred first
    assert "null" not in {one.backend for one in found}
    assert candidates(both, ["ort"]) == of_ort


def test_a_precision_chooses_the_graph_that_was_made_for_it(bundle: Bundle) -> None:
    both = with_artifacts(bundle, graph(bundle, "fp16"), *bundle.manifest.artifacts)
    assert choose(both, "ort").name == "ort onnx-fp32"  # the widest, unless another is asked for
    chosen = choose(both, "ort", "fp16")
    assert chosen.artifact is not None
    assert (chosen.artifact.id, chosen.arithmetic) == ("onnx-fp16", "fp16")
    assert choose(both, artifact="onnx-fp16") == chosen


class Hinted(ort.Runtime):
    """ONNX Runtime, as if a hint let it compute float32 graphs in bf16."""

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        return ("fp32", "bf16") if artifact.precision == "fp32" else (artifact.precision,)


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "Runtime", Hinted)


@pytest.mark.usefixtures("hinted")
def test_a_hint_computes_a_graph_in_another_arithmetic(bundle: Bundle) -> None:
    chosen = choose(bundle, "ort", "bf16")
    assert chosen.name == "ort onnx-fp32 in bf16"
    assert (chosen.tolerance(), choose(bundle, "ort").tolerance()) == (TOLERANCES["bf16"], Tolerance(1e-5, 1e-4))
    both = with_artifacts(bundle, *bundle.manifest.artifacts, graph(bundle, "bf16"))
    assert choose(both, "ort", "bf16").artifact == both.manifest.artifacts[1]  # a graph goes before a hint


# --- what cannot be


def test_an_arithmetic_that_nothing_computes(bundle: Bundle) -> None:
    message = (
        r"^--precision got int8, ort can compute in fp32: no backend here computes this bundle in int8; dexport adds"
    )
    with pytest.raises(ConfigError, match=message):
        choose(bundle, "ort", "int8")


@pytest.mark.usefixtures("hinted")
def test_an_arithmetic_that_another_backend_computes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(null.Runtime):
        formats = ("onnx",)

    monkeypatch.setattr(null, "Runtime", Plain)
    with pytest.raises(ConfigError, match=r"^--precision got bf16, null can compute in fp32: use --backend ort"):
        choose(bundle, "null", "bf16")


def test_an_artifact_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"--artifact got 'trt-fp16', '.*' holds onnx-fp32: choose one"):
        choose(bundle, artifact="trt-fp16")
    other = with_artifacts(bundle, replace(bundle.manifest.artifacts[0], format="tpu"))
    with pytest.raises(BundleError, match=r"has no onnx artifact, it holds tpu-fp32: choose another backend, or ex"):
        choose(other, "ort")
    with pytest.raises(BackendUnavailable, match=r"no backend opens what '.*' holds, which is tpu-fp32"):
        choose(other)
    with pytest.raises(BackendUnavailable, match=r"no backend opens what '.*' holds, which is nothing"):
        choose(with_artifacts(bundle))


def test_a_backend_that_is_not_here(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(ort.Runtime):
        @staticmethod
        def probe() -> backends.Probe:
            return backends.Probe(False, "it is not installed", "pip install it")

    monkeypatch.setattr(ort, "Runtime", Missing)
    named = r"^backend 'ort' is not available: it is not installed; install it with: pip install it$"
    with pytest.raises(BackendUnavailable, match=named):
        choose(bundle, "ort")
    with pytest.raises(BackendUnavailable, match=named):
        open_candidate(bundle, Candidate("ort", bundle.manifest.artifacts[0], "fp32"))


def test_a_device_or_hint_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"^--device or --unit got 'mps', ONNX Runtime has cpu, cuda, webgpu$"):
        on("ort", bundle, device="mps")
    with pytest.raises(ConfigError, match=r"^--hint got 'speed', expected latency or throughput$"):
        RuntimeOptions(hint="speed")
    with pytest.raises(ConfigError, match=r"^--hint got 'throughput', ONNX Runtime does not follow it: use --back"):
        on("ort", bundle, hint="throughput")
    with pytest.raises(ConfigError, match=r"^--compile does nothing for ONNX Runtime: use --backend pt2$"):
        on("ort", bundle, compile=True)
    with pytest.raises(ConfigError, match=r"^--device or --unit got 'tpu', expected one of cpu, cuda, webgpu, mps, "):
        choose(bundle, device="tpu")


def test_a_device_chooses_a_backend_that_has_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Apples(null.Runtime):
        formats, devices = ("onnx",), ("mps",)

    monkeypatch.setattr(null, "Runtime", Apples)
    assert choose(bundle, device="mps").backend == "null"
    assert choose(bundle).backend == "ort"


def test_a_named_backend_answers_for_itself(bundle: Bundle) -> None:
    """Not another one, which is there and would do."""
    with pytest.raises(
        BundleError, match=r"has no pt2 artifact, it holds onnx-fp32: choose another backend, or export"
    ):
        candidates(bundle, ["pt2"])
    with pytest.raises(ConfigError, match=r"^backend 'null' opens no artifact of a bundle"):
        candidates(bundle, ["null"])
    half = with_artifacts(bundle, graph(bundle, "bf16"))
    with pytest.raises(BackendUnavailable, match=r"^ort can compute nothing of '.*' here, which holds onnx-bf16"):
        candidates(half, ["ort"])


def test_the_artifact_that_was_named_stands_in_the_way(bundle: Bundle) -> None:
    both = with_artifacts(bundle, *bundle.manifest.artifacts, graph(bundle, "fp16"))
    message = r"^--precision got fp16, onnx-fp32 can be computed in fp32: leave out --artifact$"
    with pytest.raises(ConfigError, match=message):
        choose(both, "ort", "fp16", "onnx-fp32")


# --- what was opened


def test_what_is_opened_says_what_it_is(bundle: Bundle) -> None:
    with on("ort", bundle, threads=1, device="cpu") as opened:
        assert (opened.name, opened.arithmetic, opened.artifact) == ("ort", "fp32", bundle.manifest.artifacts[0])
        assert opened.describe() == "ONNX Runtime on CPU"
        opened.backend.arithmetic = "tf32"
        assert opened.describe() == "ONNX Runtime on CPU in tf32"


class Device(ort.Runtime):
    """A backend with a walk of its own, which notes what it carried."""

    walked: list[int]

    def walk(self, *arguments: Any) -> Any:
        self.walked.append(len(arguments[1]))
        return super().walk(*arguments)


@pytest.mark.parametrize(
    ("batch", "size", "cfg", "own"),
    [
        ((1, 8), 8, 1.0, True),
        ((1, 8), 8, 2.0, False),  # twice 8 does not fit
        ((1, 8), 4, 2.0, True),
        ((4, 4), 4, 1.0, True),
        ((4, 4), 3, 1.0, False),
        ((2, 8), 1, 1.0, False),
    ],
)
def test_a_walk_of_a_backend_gets_what_its_artifact_takes(
    make_bundle: Callable[..., Path], batch: tuple[int, int], size: int, cfg: float, own: bool
) -> None:
    """The loop on the host, which pads and cuts, takes the others, and both give the same images."""
    bundle = bundles.read(make_bundle(conditional=True, batch=batch))
    artifact, card = bundle.manifest.artifacts[0], bundle.manifest.card
    backend = Device(bundle, artifact, "fp32")
    backend.walked = []
    opened = Opened(Candidate("ort", artifact, "fp32"), backend)
    table = with_guidance(step_table("ddim", card.process, card.prediction, 4, {}), cfg)
    x, labels = np.random.default_rng(0).standard_normal((size, 3, 8, 8), np.float32), np.arange(size)
    got = opened.walk(table, x.copy(), labels, card.guidance, lambda: np.empty(0, np.float32), Observer())
    assert backend.walked == ([size] if own else [])
    assert opened.largest_batch(table) == (batch[1] if cfg == 1 else batch[1] // 2)
    same = by(null.Runtime(bundle)).walk(table, x, labels, card.guidance, lambda: np.empty(0, np.float32), Observer())
    np.testing.assert_allclose(got, same, atol=1e-5)


def test_without_a_decoder_nothing_decodes(bundle: Bundle) -> None:
    assert decoder_candidate(bundle) is None


# --- the fastest


@pytest.fixture
def picked(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pick:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "state"))
    pick = Pick("openvino", "onnx-fp32", "fp32", "cpu", 1.0)
    remember(bundle, pick)
    return pick


def auto(bundle: Bundle, precision: str | None = None, artifact: str | None = None, device: str | None = None) -> str:
    candidate, options = choose_with_device(bundle, "auto", precision, artifact, RuntimeOptions(device=device))
    return f"{candidate.name} on {options.device}"


@pytest.mark.usefixtures("picked")
def test_auto_is_the_pick_if_it_is_what_is_asked_for(bundle: Bundle) -> None:
    for asked in ({}, {"precision": "fp32"}, {"artifact": "onnx-fp32"}, {"device": "cpu"}):
        assert auto(bundle, **asked) == "openvino onnx-fp32 on cpu"
    candidate, options = choose_with_device(bundle, "ort", None, None, RuntimeOptions())
    assert (candidate.backend, options.device) == ("ort", None)


@pytest.mark.usefixtures("picked")
def test_a_pick_of_another_device_is_not_taken(bundle: Bundle) -> None:
    assert auto(bundle, device="webgpu") == "ort onnx-fp32 on webgpu"


def test_without_a_pick_auto_is_the_first_that_can(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "state"))
    assert auto(bundle) == "ort onnx-fp32 on None"
    assert "nothing is picked for this network here" in capsys.readouterr().out


def test_a_pick_that_is_gone_is_said(bundle: Bundle, picked: Pick, capsys: pytest.CaptureFixture[str]) -> None:
    remember(bundle, replace(picked, artifact="openvino-int8"))
    assert auto(bundle) == "ort onnx-fp32 on None"
    assert "openvino openvino-int8 on cpu was the fastest, but is not here any more" in capsys.readouterr().err
