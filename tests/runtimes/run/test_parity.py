"""Parity numbers against direct numpy, and verdicts that cannot pass by accident."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openings import as_if, on, on_null

from drun.backends import null
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry, Tolerance
from drun.bundle.reading import Bundle
from drun.errors import BundleError, DataError, UserError
from drun.files import sha256
from drun.run.opening import Candidate, Opened
from drun.run.parity import Comparison, check, compare, summary

RNG = np.random.default_rng(0)


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


REFERENCE = RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)


def test_the_numbers() -> None:
    got = REFERENCE + RNG.standard_normal(REFERENCE.shape).astype(np.float32) * 1e-3
    result = compare("a", REFERENCE, got, tolerance=0.01)
    a, b = REFERENCE.astype(np.float64).ravel(), got.astype(np.float64).ravel()
    error = np.sort(np.abs(b - a))
    assert result.count == a.size
    assert result.max_abs == pytest.approx(error[-1], rel=1e-12)
    assert result.mean_abs == pytest.approx(error.sum() / a.size, rel=1e-12)
    position = 0.99 * (a.size - 1)
    low, part = int(position), position % 1
    assert result.p99_abs == pytest.approx((1 - part) * error[low] + part * error[low + 1], rel=1e-9)
    assert result.relative_l2 == pytest.approx(math.sqrt((error**2).sum() / (a**2).sum()), rel=1e-12)
    mean_square = (error**2).mean()
    assert result.psnr_db == pytest.approx(10 * math.log10((a.max() - a.min()) ** 2 / mean_square), rel=1e-12)


def test_relative_l2_is_the_smallest_tolerance_that_passes() -> None:
    got = REFERENCE * 1.01
    exact = compare("a", REFERENCE, got, tolerance=1.0).relative_l2
    assert compare("a", REFERENCE, got, tolerance=exact).passed
    assert not compare("a", REFERENCE, got, tolerance=exact * 0.999999).passed


def test_equal_arrays_pass() -> None:
    result = compare("a", REFERENCE, REFERENCE.copy(), tolerance=1e-9)
    assert result.passed
    assert (result.max_abs, result.relative_l2, result.psnr_db) == (0, 0, math.inf)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["got", "reference", "both"])
def test_one_number_that_is_not_finite_fails(value: float, where: str) -> None:
    reference, got = REFERENCE.copy(), REFERENCE.copy()
    if where != "got":
        reference[1, 2, 3, 4] = value
    if where != "reference":
        got[1, 2, 3, 4] = value
    assert not compare("a", reference, got, tolerance=1e9).passed


@pytest.mark.parametrize("shape", [(4, 3, 8, 7), (1, 3, 8, 8), (4, 3, 64), (0, 3, 8, 8)])
def test_another_shape_fails(shape: tuple[int, ...]) -> None:
    result = compare("a", REFERENCE, np.zeros(shape, np.float32), tolerance=1e9)
    assert (result.passed, result.count) == (False, 0)


def test_nothing_compared_fails() -> None:
    empty = np.zeros((0, 3, 8, 8))
    assert not compare("a", empty, empty, tolerance=1e9).passed


def test_a_reference_of_zeros_proves_nothing() -> None:
    """As of a network whose last layer was never trained."""
    zeros = np.zeros((1, 3, 8, 8))
    assert not compare("a", zeros, zeros, tolerance=1e9).passed


def result_of(relative_l2: float, tolerance: float = 1e-3, count: int = 1) -> Comparison:
    return Comparison(f"{relative_l2}", count, 0, 0, 0, relative_l2, 0, tolerance)


@pytest.mark.parametrize(
    ("errors", "worst", "passed"),
    [
        ([1e-5, 1e-4, 1e-6], "0.0001", True),
        ([1e-5, 1e-2, 1e-6], "0.01", False),
        ([1e-5, math.nan, 1e-2], "nan", False),
        ([math.nan, 1e-5], "nan", False),
    ],
)
def test_summary_names_the_worst(errors: list[float], worst: str, passed: bool) -> None:
    got = summary([result_of(error) for error in errors], "a backend", steps=7)
    assert got["steps"] == 7
    assert (got["checks"], got["passed"], got["worst"]["name"]) == (len(errors), passed, worst)


def test_the_worst_is_measured_by_its_own_tolerance() -> None:
    assert summary([result_of(1e-2, 1e-1), result_of(1e-3, 1e-3)], "a backend")["worst"]["name"] == "0.001"


def test_a_summary_is_json() -> None:
    """The strict kind: other languages read the manifest, too."""
    equal = compare("a", REFERENCE, REFERENCE, tolerance=1e-9)
    assert equal.psnr_db == math.inf
    assert json.loads(json.dumps(summary([equal], "a backend"), allow_nan=False))["worst"]["psnr_db"] is None


# --- the golden file


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("batch", [(1, 8), (4, 4), (1, 2)])
def test_onnx_runtime_computes_the_golden_file(
    make_bundle: Callable[..., Path], conditional: bool, batch: tuple[int, int]
) -> None:
    bundle = bundles.read(make_bundle(conditional=conditional, batch=batch))
    progress = []
    with on("ort", bundle) as opened:
        results = check(bundle, opened, lambda what, done, total: progress.append((what, done, total)))
    assert [result.name for result in results] == [
        "call, batch 1, t = 0", "call, batch 3, t = 50", "call, batch 2, t = 99", "5-step ddim trajectory, batch 3",
    ]  # fmt: skip
    assert all(result.passed and 0 < result.relative_l2 < 1e-6 for result in results)
    assert results[1].count == 3 * 3 * 8 * 8
    assert progress == [("proving parity", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("conditional", [False, True])
def test_the_null_backend_computes_it_too(make_bundle: Callable[..., Path], conditional: bool) -> None:
    """The fixture's network is the same Gaussian, so two independent closed forms meet here."""
    bundle = bundles.read(make_bundle(conditional=conditional))
    results = check(bundle, as_if(null.Runtime(bundle), bundle), silent)
    assert [result.passed for result in results] == [True] * 4
    assert all(result.relative_l2 < 1e-5 for result in results)


def test_a_network_that_is_half_a_percent_off_fails(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle(gain=1.005))
    results = check(bundle, on("ort", bundle), silent)
    assert not any(result.passed for result in results)
    assert [result.relative_l2 for result in results[:3]] == pytest.approx([0.005] * 3, rel=1e-3)


class Broken(null.Runtime):
    """A network that gives NaN for one number of one image at one time."""

    def __init__(self, bundle: Bundle, time: float) -> None:
        super().__init__(bundle)
        self.time = time

    def predict(self, *inputs: Any) -> Any:
        out = super().predict(*inputs)
        if inputs[1][0] == self.time:
            out[0, 0, 0, 0] = np.nan
        return out


@pytest.mark.parametrize(("time", "passed"), [(50, [True, False, True, True]), (59, [True, True, True, False])])
def test_one_nan_fails_its_check_and_no_other(bundle: Bundle, time: float, passed: list[bool]) -> None:
    """Also where it would stop a sampling run."""
    artifact = replace(bundle.manifest.artifacts[0], tolerance=Tolerance(1e9, 1e9))
    results = check(bundle, Opened(Candidate("ort", artifact, "fp32"), Broken(bundle, time)), silent)
    assert [result.passed for result in results] == passed


def with_golden(bundle: Bundle, **arrays: np.ndarray) -> Bundle:
    path = bundle.path / "other.npz"
    np.savez(path, **arrays)
    return replace(bundle, manifest=replace(bundle.manifest, golden=FileEntry("other.npz", sha256(path))))


def golden_arrays(bundle: Bundle) -> dict[str, np.ndarray]:
    with np.load(bundle.path / "golden.npz") as file:
        return {name: file[name] for name in file.files}


def spec_without(bundle: Bundle, name: str) -> Mapping[str, np.ndarray]:
    arrays = golden_arrays(bundle)
    spec = json.loads(str(arrays["spec"])) | {name: []}
    return arrays | {"spec": np.array(json.dumps(spec))}


@pytest.mark.parametrize("lacking", ["calls", "trajectories", "everything"])
def test_a_golden_file_that_compares_nothing_is_refused(bundle: Bundle, lacking: str) -> None:
    arrays = {"x": np.zeros(3)} if lacking == "everything" else spec_without(bundle, lacking)
    empty = with_golden(bundle, **arrays)
    with pytest.raises(BundleError, match=r"(compares nothing: |is wrong: it lacks .spec.; )export again"):
        check(empty, on_null(bundle), silent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"call1.out": a["call1.out"][:2]}, r"call1.out got float32 \(2, 3, 8, 8\), expected float32 \(3,"),
        (lambda a: {"call0.x": a["call0.x"].astype(np.float64)}, r"call0.x got float64 .*, expected float32"),
        (lambda a: {"call0.t": np.float32(np.nan)}, r"call0.t holds NaN or infinity"),
        (lambda a: {"call0.t": np.zeros(2, np.float32)}, r"call0.t got float32 \(2,\), expected float32 \(\)"),
        (lambda a: {"trajectory0.out": a["trajectory0.out"] * np.nan}, r"trajectory0.out holds NaN or infinity"),
        (lambda a: {"spec": np.array("{")}, r"Expecting property name"),
        (lambda a: {"spec": np.array("[" * 9999)}, r"it is nested too deeply"),
        (lambda a: spec(a, calls=[1.0] * 9), r"it lacks 'call3.x'"),
        (lambda a: spec(a, calls="x"), r"spec.calls got 'x', expected list"),
        (lambda a: spec(a, trajectories=[{}]), r"spec.trajectories\[0\] lacks indices, settings"),
        (lambda a: run_spec(a, indices=[-1]), r"trajectory 0 has the indices \(-1,\)"),
        (lambda a: run_spec(a, indices=[1, 2]), r"trajectory0.out got .*, expected float32 \(2,"),
        (lambda a: settings_spec(a, num_steps="x"), r"settings.num_steps got 'x', expected a whole number"),
        (lambda a: settings_spec(a, magic=1), r"settings has an unknown field 'magic'"),
        (lambda a: settings_spec(a, uint8="ceil"), r"--uint8 got 'ceil'"),
    ],
)  # fmt: skip
def test_a_golden_file_that_does_not_fit_is_refused(bundle: Bundle, change: Any, message: str) -> None:
    arrays = golden_arrays(bundle)
    other = with_golden(bundle, **arrays | change(arrays))
    with pytest.raises(BundleError, match=rf"the golden file of '.*' is wrong: .*{message}.*; export again"):
        check(other, on_null(bundle), silent)


def spec(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"spec": np.array(json.dumps(json.loads(str(arrays["spec"])) | changes))}


def run_spec(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return spec(arrays, trajectories=[json.loads(str(arrays["spec"]))["trajectories"][0] | changes])


def settings_spec(arrays: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = json.loads(str(arrays["spec"]))["trajectories"][0]["settings"]
    return run_spec(arrays, settings=settings | changes)


@pytest.mark.parametrize("change", [{"num_steps": 10**12}, {"sampler": "plms"}, {"options": {"eta": 1e308}}])
def test_settings_that_no_sampler_has_are_refused(bundle: Bundle, change: dict[str, Any]) -> None:
    arrays = golden_arrays(bundle)
    other = with_golden(bundle, **arrays | settings_spec(arrays, **change))
    with pytest.raises(UserError):
        check(other, on_null(bundle), silent)


def test_a_damaged_golden_file_is_refused(bundle: Bundle) -> None:
    with (bundle.path / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"golden.npz' is damaged"):
        check(bundle, on_null(bundle), silent)


def test_a_golden_file_of_pickles_is_refused(bundle: Bundle) -> None:
    """Its sha256 may be right, but nothing in a bundle is ever executed."""
    pickled = with_golden(bundle, spec=np.array([{"calls": []}], dtype=object))
    with pytest.raises(DataError, match=r"cannot read the arrays of '.*other.npz': it holds object, expected numbers"):
        check(pickled, on_null(bundle), silent)
