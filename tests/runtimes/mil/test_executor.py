"""The run of a whole function: modes, checks of each result, memory, and programs that are wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Case, block, changed, first, write

from drun.errors import BundleError
from drun.mil.executor import Executor
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

    def watch(operation: str, name: str, type: Any, value: Any, rounded: Any) -> None:
        nonlocal most
        alive.append(weakref.ref(value))
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    Executor(package).run({"c0_0": X}, watch)
    assert len(alive) >= 6
    assert most <= 3


# ---- programs that are wrong ----------------------------------------------------------------------------


def retyped(function: Any) -> None:
    first(function, "tanh").outputs[0].type.tensorType.dimensions[0].constant.size = 3


def recast(function: Any) -> None:
    first(function, "tanh").outputs[0].type.tensorType.dataType = 23


def value_of(function: Any) -> Any:
    """A constant of the program, without its elements."""
    found = first(function, "const").attributes["val"]
    found.ClearField(found.WhichOneof("value"))
    return found.immediateValue.tensor


def newer(function: Any) -> None:
    function.opset = "CoreML99"
    function.block_specializations["CoreML99"].CopyFrom(block(function))


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
        (newer, r"has the opset CoreML99, and CoreML9 is the newest that is known: update dexport$"),
        (lambda f: f.inputs.add().CopyFrom(f.inputs[0]), r"its function 'main' has two inputs of one name"),
        (lambda f: block(f).outputs.append(block(f).outputs[0]), r"its function 'main' has two outputs of one name"),
        (lambda f: block(f).ClearField("outputs"), r"its function 'main' has no outputs"),
        (lambda f: block(f).inputs.add().CopyFrom(f.inputs[0]), r"the block of its function 'main' has inputs"),
        (lambda f: f.attributes["fast"].SetInParent(), r"'main' has the attribute 'fast', which is not known"),
        (lambda f: block(f).attributes["fast"].SetInParent(), r"'main' has the attribute 'fast', which is not known"),
        (
            lambda f: first(f, "tanh").outputs.add().CopyFrom(first(f, "tanh").outputs[0]),
            r"is computed twice",
        ),
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


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"it lacks 'c0_0'; give c0_0 fp32 \(2, 16\)$"),
        (
            {"c0_0": X[:1]},
            r"the input 'c0_0' is float32 \(1, 16\), declared as fp32 \(2, 16\); give c0_0 fp32 \(2, 16\)$",
        ),
        ({"c0_0": X.astype(int)}, r"the input 'c0_0' is int64 \(2, 16\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(package: Package, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Executor(package).run(inputs)


# ---- what takes too much --------------------------------------------------------------------------------

ROW, COLUMN = np.zeros((1, 3), np.float32), np.zeros((4, 1), np.float32)
SOME = np.zeros((2, 6, 5, 4), np.float32)
#: Operations that make more elements than they are given.
GROWING = [
    Case("add", lambda mb, a, b: mb.add(x=a, y=b), [ROW, COLUMN]),
    Case("select", lambda mb, a, b: mb.select(cond=mb.greater(x=a, y=np.float32(0)), a=a, b=b), [ROW, COLUMN]),
    Case("matmul", lambda mb, a, b: mb.matmul(x=a, y=b, transpose_x=True, transpose_y=True), [ROW, COLUMN]),
    Case("linear", lambda mb, a: mb.linear(x=a, weight=np.ones((50, 3), np.float32)), [ROW]),
    Case(
        "einsum",
        lambda mb, a, b: mb.einsum(values=(a, b), equation="nchw,nwhu->nchu"),
        [SOME, SOME.transpose(0, 3, 2, 1)],
    ),
    Case("attention", lambda mb, a: mb.scaled_dot_product_attention(query=a, key=a, value=a), [SOME]),
    Case("concat", lambda mb, a: mb.concat(values=[a] * 40, axis=1), [ROW]),
    Case("stack", lambda mb, a: mb.stack(values=[a] * 40, axis=-1), [ROW]),
    Case("gather", lambda mb, a: mb.gather(x=a, indices=np.zeros((7, 7), np.int32), axis=1), [ROW]),
    Case("gather_nd", lambda mb, a: mb.gather_nd(x=a, indices=np.zeros((7, 1), np.int32)), [ROW]),
    Case(
        "gather_along_axis", lambda mb, a: mb.gather_along_axis(x=a, indices=np.zeros((1, 7), np.int32), axis=1), [ROW]
    ),
    Case("conv", lambda mb, a: mb.conv(x=a, weight=np.ones((50, 6, 1, 1), np.float32), pad_type="same"), [SOME]),
]


@pytest.mark.parametrize("case", GROWING, ids=[case.name for case in GROWING])
def test_nothing_is_computed_that_is_larger_than_declared(case: Case, tmp_path: Path) -> None:
    """A file of a few bytes could ask for any size."""
    inputs = {f"c0_{place}": one for place, one in enumerate(case.inputs)}
    package = write([case], tmp_path)
    Executor(package).run(inputs)
    name = "scaled_dot_product_attention" if case.name == "attention" else case.name

    def shrink(function: Any) -> None:
        stated = first(function, name).outputs[0].type.tensorType
        del stated.dimensions[:]
        stated.rank = 0

    executor = Executor(Package(changed(package, tmp_path, shrink)))
    (instruction,) = (one for one in executor.instructions if one.operator.name == name)
    fails = wraps(instruction.operator.compute)(lambda **_: pytest.fail("it was computed"))
    instruction.operator = replace(instruction.operator, compute=fails)
    with pytest.raises(BundleError, match=r"the result '.*' is \(.*\), declared as fp32 \(\)"):
        executor.run(inputs)
