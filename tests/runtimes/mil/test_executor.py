"""The run of a whole function: modes, checks of each result, memory, and programs that are wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Case, library, write

from drun.errors import BundleError
from drun.mil import executor as executors
from drun.mil.executor import Executor
from drun.mil.health import Health
from drun.mil.package import Package

X = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)


def chain(mb: Any, a: Any) -> Any:
    for _ in range(3):
        a = mb.tanh(x=mb.linear(x=a, weight=WEIGHT))
    return a


def half_chain(mb: Any, a: Any) -> Any:
    a = mb.cast(x=a, dtype="fp16")
    for _ in range(3):
        a = mb.tanh(x=mb.linear(x=a, weight=WEIGHT.astype(np.float16)))
    return mb.cast(x=a, dtype="fp32")


def expected(x: np.ndarray[Any, Any], rounded: Callable[[Any], Any] = lambda a: a) -> Any:
    x = rounded(x)
    for _ in range(3):
        x = rounded(np.tanh(rounded(x @ rounded(WEIGHT).T)))
    return x


def half(x: Any) -> Any:
    return x.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write([Case("chain", chain, [X])], tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def half_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write([Case("half", half_chain, [X])], tmp_path_factory.mktemp("half"))


def test_a_float32_program(package: Package) -> None:
    (found,) = Executor(package).run({"c0_0": X}).values()
    np.testing.assert_allclose(found, expected(X), rtol=1e-5, atol=1e-6)


def test_the_modes_of_an_fp16_program(half_package: Package) -> None:
    """`ideal` rounds the weights alone, which are stored so; `declared` each result."""
    runs = {
        mode: Executor(half_package, mode=mode).run({"c0_0": X})["r0_0"] for mode in ("ideal", "declared", "strict16")
    }
    np.testing.assert_array_equal(runs["declared"], expected(X, half))
    assert not np.array_equal(runs["ideal"], runs["declared"])
    weights = half(WEIGHT)
    x = X
    for _ in range(3):
        x = np.tanh(x @ weights.T)
    np.testing.assert_allclose(runs["ideal"], x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(runs["strict16"], runs["declared"], atol=0.05)


def test_it_is_the_same_each_time(package: Package) -> None:
    executor = Executor(package)
    first, second = (executor.run({"c0_0": X})["r0_0"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_values_are_freed_after_their_last_reader(package: Package) -> None:
    """At most three of the six are alive at a time: the one that is read, its own, and what the observer holds."""
    alive: list[weakref.ref[Any]] = []
    most = 0

    def watch(operation: str, name: str, type: Any, value: Any) -> None:
        nonlocal most
        alive.append(weakref.ref(value))
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    Executor(package).run({"c0_0": X}, watch)
    assert len(alive) >= 6
    assert most <= 3


def test_large_constants_are_read_when_they_are_needed(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "KEPT_BYTES", 0)
    monkeypatch.setattr(executors, "SMALL_BYTES", 100)
    executor = Executor(package)
    (found,) = executor.run({"c0_0": X}).values()
    np.testing.assert_allclose(found, expected(X), rtol=1e-5, atol=1e-6)
    large = [one for one in executors._constants_of(executor.instructions) if one.num_bytes > 100]
    assert large
    assert all(one.value is None for one in large)


def test_its_health(tmp_path: Path) -> None:
    def build(mb: Any, a: Any) -> Any:
        small = mb.mul(x=mb.cast(x=a, dtype="fp16"), y=np.float16(1e-3))
        return mb.cast(x=mb.exp(x=small), dtype="fp32"), mb.mul(x=mb.cast(x=small, dtype="fp32"), y=np.float32(1e7))

    health = Health()
    x = np.array([0.001, 1.0, 60.0], np.float32)
    Executor(write([Case("health", build, [x])], tmp_path)).run({"c0_0": x}, health)
    assert health.largest.value == pytest.approx(6e5, rel=1e-3)
    assert health.largest.operation in ("mul", "identity")
    assert health.not_finite is None
    assert health.subnormal["mul"] == pytest.approx(1 / 3)
    assert "the largest number is 6.003e+05 of 65504, in mul" in health.describe()
    assert health.document()["subnormal_shares"]["mul"] == health.subnormal["mul"]


def test_slices_have_a_limit_of_their_own(tmp_path: Path) -> None:
    x = np.array([1.0, 5000.0, 9000.0, 2.0], np.float32)
    case = Case("slices", lambda mb, a: mb.slice_by_index(x=a, begin=[1], end=[2]), [x])
    health = Health()
    Executor(write([case], tmp_path)).run({"c0_0": x}, health)
    assert health.largest_slice.value == 5000
    assert "that of a slice 5000 of 4094" in health.describe()


def test_the_first_number_that_is_not_finite(tmp_path: Path) -> None:
    x = np.array([-1.0, 4.0], np.float32)
    case = Case("roots", lambda mb, a: mb.add(x=mb.sqrt(x=a), y=np.float32(1)), [x])
    health = Health()
    Executor(write([case], tmp_path)).run({"c0_0": x}, health)
    assert health.describe().startswith("sqrt '")
    assert health.describe().endswith("gave nan")
    assert health.document()["not_finite"]["value"] == "nan"


# ---- programs that are wrong ----------------------------------------------------------------------------


def changed(package: Package, tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """A copy whose program was changed."""
    import shutil

    folder = shutil.copytree(package.folder, tmp_path / "changed.mlpackage")
    spec = library().models.MLModel(str(folder), skip_model_load=True).get_spec()
    change(spec.mlProgram.functions["main"])
    Package(folder).path.write_bytes(spec.SerializeToString())
    return folder


def block(function: Any) -> Any:
    return next(iter(function.block_specializations.values()))


def first(function: Any, kind: str) -> Any:
    return next(one for one in block(function).operations if one.type == kind)


def retyped(function: Any) -> None:
    first(function, "tanh").outputs[0].type.tensorType.dimensions[0].constant.size = 3


def recast(function: Any) -> None:
    first(function, "tanh").outputs[0].type.tensorType.dataType = 23


def value_of(function: Any) -> Any:
    """A constant of the program, without its elements."""
    found = first(function, "const").attributes["val"]
    found.ClearField(found.WhichOneof("value"))
    return found.immediateValue.tensor


def crowded(function: Any) -> None:
    value_of(function).floats.values.extend([0.0] * 3_000_000)


def misfilled(function: Any) -> None:
    value_of(function).bytes.values = bytes(9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: setattr(first(f, "tanh"), "type", "warp"), r"the operation 'warp' is not known in opset CoreML8"),
        (
            lambda f: first(f, "tanh").inputs["alpha"].CopyFrom(first(f, "tanh").inputs["x"]),
            r"'.*' \(tanh\) has the parameter 'alpha', which is not known",
        ),
        (lambda f: first(f, "linear").inputs.pop("weight"), r"\(linear\) lacks the parameter 'weight'"),
        (
            lambda f: setattr(first(f, "tanh").inputs["x"].arguments[0], "name", "nobody"),
            r"'nobody' is read before it is computed",
        ),
        (lambda f: block(f).operations.add().CopyFrom(first(f, "tanh")), r"is computed twice"),
        (lambda f: block(f).outputs.append("nobody"), r"'nobody' is read before it is computed"),
        (lambda f: setattr(f, "opset", "CoreML7"), r"its function 'main' has the opset 'CoreML7'"),
        (lambda f: first(f, "tanh").blocks.add(), r"has blocks, which are not known"),
        (lambda f: first(f, "tanh").ClearField("outputs"), r"an operation 'tanh' has no results"),
        (
            lambda f: (
                first(f, "const").attributes["val"].ClearField(first(f, "const").attributes["val"].WhichOneof("value"))
            ),
            r"has no elements|has no value",
        ),
        (crowded, r"a constant has 3,000,000 elements, expected fp32 \(16, 16\)"),
        (misfilled, r"holds 9 bytes"),
        (
            lambda f: first(f, "tanh").attributes["fast"].CopyFrom(first(f, "tanh").attributes["name"]),
            r"has the parameter 'fast', which is not known",
        ),
    ],
)
def test_a_program_that_cannot_be_computed_is_refused(
    package: Package, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    folder = changed(package, tmp_path, change)
    with pytest.raises(BundleError, match=message) as error:
        Executor(Package(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [retyped, recast])
def test_a_result_that_is_not_what_it_declares_is_an_error(
    package: Package, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    executor = Executor(Package(changed(package, tmp_path, change)))
    with pytest.raises(
        BundleError, match=r"^cannot compute '.*' \(tanh\) of .*: the result '.*' is float32 .*, declared as"
    ):
        executor.run({"c0_0": X})


def test_an_unknown_function_is_refused(package: Package) -> None:
    with pytest.raises(BundleError, match=r"it has no function 'other', it has main"):
        Executor(package, "other")
