"""Which graph of a quantised artifact computes which time, told by two graphs that differ."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from irs import inputs

from drun.backends.openvino import Runtime
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import NOBODY
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.samplers import step_table
from drun.errors import BundleError
from drun.files import sha256
from drun.run.opening import Candidate, choose, open_candidate
from drun.settings import RuntimeOptions


@pytest.fixture
def quantised(make_bundle: Callable[..., Path], tmp_path: Path) -> Bundle:
    """A bundle with a graph in fp32 of gain 1 and one "in int8" of gain 2, for times below 60."""
    bundle = bundles.read(make_bundle())
    other = bundles.read(shutil.copytree(make_bundle("other", gain=2.0), tmp_path / "other"))
    source = bundle.manifest.artifacts[0]
    model = openvino.Core().read_model(other.path / source.files[0].path)
    openvino.save_model(model, bundle.path / "denoiser.int8.xml", compress_to_fp16=False)
    files = tuple(FileEntry(name, sha256(bundle.path / name)) for name in ("denoiser.int8.xml", "denoiser.int8.bin"))
    made = replace(
        source, format="openvino", precision="int8", files=files, derived_from=source.files[0].sha256,
        target={"fp32_times": [[60, 63], [0, 1.5]]},
    )  # fmt: skip
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=(made, source)))


def gain(bundle: Bundle, t: float | np.ndarray, **options: Any) -> float:
    """What the quantised artifact computes, divided by what the fp32 graph computes."""
    x, times, _ = inputs(4)
    times[:] = t
    backend = Runtime(bundle, bundle.manifest.artifacts[0], "int8", RuntimeOptions(**options))
    exact = Runtime(bundle, bundle.manifest.artifacts[1], "fp32")
    return float(np.median(backend.predict(x, times) / exact.predict(x, times)))


@pytest.mark.parametrize(("t", "expected"), [(63, 1), (60, 1), (59.9, 2), (30, 2), (1.6, 2), (1.5, 1), (0, 1)])
def test_the_time_decides(quantised: Bundle, t: float, expected: float) -> None:
    assert gain(quantised, t) == pytest.approx(expected, rel=0.02)
    assert gain(quantised, t, hint="throughput", threads=2) == pytest.approx(expected, rel=0.02)


def test_one_time_at_an_end_decides_for_its_batch(quantised: Bundle) -> None:
    assert gain(quantised, np.array([30, 30, 63, 30])) == pytest.approx(1, rel=1e-4)


def test_a_walk_and_single_calls_agree(quantised: Bundle) -> None:
    """The rows of a walk, computed once more by calls."""
    table = step_table("ddim", quantised.manifest.card.process, "noise", 8, {"grid": "trailing"})
    assert table.rows[0].t >= 60
    assert any(row.t < 60 for row in table.rows)
    with open_candidate(quantised, Candidate("openvino", quantised.manifest.artifacts[0], "int8")) as opened:
        shape = quantised.manifest.data.shape
        walked = opened.walk(table, PhiloxNoise(1, [0], shape)(), None, Guidance(), PhiloxNoise(1, [0], shape), NOBODY)
        x = PhiloxNoise(1, [0], shape)()
        for row in table.rows:
            h = row.p * x + row.q * opened.call(x, row.t, None)
            if table.clip is not None:
                h = h.clip(-1, 1)
            x = (row.a * x + row.b * h).astype(np.float32)
    np.testing.assert_allclose(walked, x, rtol=1e-3, atol=1e-4)


def test_it_says_what_it_computes(quantised: Bundle) -> None:
    with open_candidate(quantised, choose(quantised, precision="int8")) as opened:
        where = opened.describe()
    assert where.startswith("OpenVINO on CPU in int8, ")
    assert where.endswith(" where not quantised, fp32 at t = 60 to 63 and 0 to 1.5")


def test_nobody_gets_int8_who_did_not_ask_for_it(quantised: Bundle) -> None:
    """Though the manifest lists it first, in the format that the backend likes best."""
    assert choose(quantised, "openvino").name == "openvino onnx-fp32"
    assert choose(quantised, precision="int8").name == "openvino openvino-int8"


@pytest.mark.parametrize(
    "stated",
    [
        3,
        [3],
        [[1]],
        [[1, 2, 3]],
        [["1", 2]],
        [[True, 2]],
        [[float("nan"), 2]],
        [[0, 10**400]],
        [[2, 1]],
        [[-5, -1]],
        [],
        "all",
    ],
)
def test_times_that_are_none(quantised: Bundle, stated: Any) -> None:
    wrong = replace(quantised.manifest.artifacts[0], target={"fp32_times": stated})
    with pytest.raises(
        BundleError,
        match=r"^the artifact openvino-int8 is wrong: fp32_times.* (got|has) .*, expected .*; export again$",
    ):
        Runtime(quantised, wrong, "int8")


def test_without_the_graph_that_it_was_made_of(quantised: Bundle) -> None:
    made = quantised.manifest.artifacts[0]
    alone = replace(quantised, manifest=replace(quantised.manifest, artifacts=(made,)))
    with pytest.raises(BundleError, match=r"lacks the fp32 graph .*: type dexport openvino .* --precision int8$"):
        Runtime(alone, made, "int8")


@pytest.mark.parametrize("change", [{"format": "pt2"}, {"precision": "fp16"}])
def test_a_source_that_is_no_float32_graph(quantised: Bundle, change: dict[str, Any]) -> None:
    made, source = quantised.manifest.artifacts
    other = replace(quantised, manifest=replace(quantised.manifest, artifacts=(made, replace(source, **change))))
    with pytest.raises(BundleError, match="lacks the fp32 graph"):
        Runtime(other, made, "int8")


def test_an_artifact_that_states_no_times_has_no_ends(quantised: Bundle) -> None:
    made = replace(quantised.manifest.artifacts[0], target={})
    backend = Runtime(quantised, made, "int8")
    assert backend.ends is None
    assert "fp32 at" not in backend.computes()
