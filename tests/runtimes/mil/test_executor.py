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
from mil_programs import Case, library, write

from drun.errors import BundleError
from drun.mil import plan
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

    def watch(operation: str, name: str, type: Any, value: Any, rounded: Any) -> None:
        nonlocal most
        alive.append(weakref.ref(value))
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    Executor(package).run({"c0_0": X}, watch)
    assert len(alive) >= 6
    assert most <= 3


def sixteen_bits(fn: Callable[..., Any], *inputs: Any) -> Case:
    """An operation on fp16, between casts."""

    def build(mb: Any, *given: Any) -> Any:
        return mb.cast(x=fn(mb, *(mb.cast(x=a, dtype="fp16") for a in given)), dtype="fp32")

    return Case("fp16", build, [np.asarray(one, np.float32) for one in inputs])


def health_of(case: Case, folder: Path, mode: str = "declared") -> Health:
    health = Health()
    Executor(write([case], folder), mode=mode).run({"c0_0": case.inputs[0]}, health)
    return health


def test_its_health(tmp_path: Path) -> None:
    """An island of float32 has numbers of its own."""

    def build(mb: Any, a: Any) -> Any:
        small = mb.mul(x=mb.cast(x=a, dtype="fp16"), y=np.float16(1e-3), name="small")
        high = mb.mul(x=mb.cast(x=small, dtype="fp32"), y=np.float32(1e7), name="island")
        return mb.cast(x=mb.exp(x=small), dtype="fp32"), high

    health = health_of(Case("health", build, [np.array([0.001, 1.0, 60.0], np.float32)]), tmp_path)
    assert health.largest.value == pytest.approx(60)
    assert health.largest.operation == "cast"
    assert health.largest_fp32.value == pytest.approx(6e5, rel=1e-3)
    assert health.largest_fp32.name == "island"
    assert health.not_finite is None
    assert [(one.name, one.share) for one in health.subnormal] == [("small", pytest.approx(1 / 3))]
    assert health.describe().startswith("the largest number in fp16, which ends at 65504, is 60, in cast '")
    assert health.describe().endswith("; subnormal are 33.3 % of mul 'small'")
    assert health.document()["subnormal"][0]["operation"] == "mul"


def test_the_health_of_a_program_in_float32(package: Package) -> None:
    health = Health()
    assert health.describe() is None
    Executor(package).run({"c0_0": X}, health)
    assert health.describe().startswith("the largest number is ")
    assert health.describe().endswith(", in fp32; fp16 ends at 65504")


def test_only_the_worst_operations_are_named(tmp_path: Path) -> None:
    def build(mb: Any, a: Any) -> Any:
        for place in range(20):
            a = mb.add(x=a, y=np.float16(0), name=f"s{place}")
        return a

    health = health_of(sixteen_bits(build, np.full(4, 1e-5)), tmp_path)
    assert len(health.subnormal) > 20
    assert len(health.document()["subnormal"]) == 10
    assert health.describe().count("100 %") == 2


def test_slices_have_a_limit_of_their_own(tmp_path: Path) -> None:
    case = sixteen_bits(lambda mb, a: mb.slice_by_index(x=a, begin=[1], end=[2]), [1.0, 5000.0, 9000.0, 2.0])
    health = health_of(case, tmp_path)
    assert health.largest_slice.value == 5000
    assert "that of a slice, of at most 4094 on older Neural Engines, is 5000, in slice_by_index" in health.describe()


def test_the_first_number_that_is_not_finite(tmp_path: Path) -> None:
    x = np.array([-1.0, 4.0], np.float32)
    health = health_of(Case("roots", lambda mb, a: mb.add(x=mb.sqrt(x=a), y=np.float32(1)), [x]), tmp_path)
    assert health.describe().startswith("sqrt '")
    assert health.describe().endswith("gave nan")
    assert health.document()["not_finite"]["value"] == "nan"


def test_an_overflow_is_that_of_the_operation_that_overflows(tmp_path: Path) -> None:
    case = sixteen_bits(lambda mb, a: mb.abs(x=mb.mul(x=a, y=np.float16(300), name="product")), [300.0, 1.0])
    assert health_of(case, tmp_path).describe() == "mul 'product' gave 9e+04, and fp16 ends at 65504"
    exact = health_of(case, tmp_path, "ideal")
    assert (exact.not_finite, exact.largest.value) == (None, 90_000)


def test_an_overflow_at_the_end_is_seen(tmp_path: Path) -> None:
    case = sixteen_bits(lambda mb, a: a, [7e4])
    assert health_of(case, tmp_path).describe().endswith("gave 7e+04, and fp16 ends at 65504")


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


# ---- palettes, and what takes too much ------------------------------------------------------------------

INDICES = np.random.default_rng(2).integers(0, 16, (16, 16)).astype(np.uint8)
PALETTE = np.random.default_rng(3).standard_normal((1, 1, 16, 1)).astype(np.float32)


def palettised(mb: Any, a: Any) -> Any:
    from coremltools.converters.mil.mil import types

    indices = INDICES.astype(types.nptype_from_builtin(types.string_to_builtin("uint4")))
    return mb.linear(x=a, weight=mb.constexpr_lut_to_dense(indices=indices, lut=PALETTE))


@pytest.fixture(scope="module")
def small_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write([Case("palettes", palettised, [X])], tmp_path_factory.mktemp("palettes"))


def kept(executor: Executor) -> list[int]:
    """The elements of the constants in memory."""
    return sorted(one.value.size for one in executor.constants.values() if one.value is not None)


def test_what_a_palette_was_looked_up_with_is_not_kept(small_package: Package) -> None:
    executor = Executor(small_package)
    (found,) = executor.run({"c0_0": X}).values()
    np.testing.assert_allclose(found, X @ PALETTE[0, 0, INDICES, 0].T, rtol=1e-5, atol=1e-5)
    assert max(kept(executor)) == 256
    assert kept(executor).count(256) == 1


def test_large_constants_are_made_when_they_are_needed(small_package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "KEPT_BYTES", 100)
    executor = Executor(small_package)
    first, second = (executor.run({"c0_0": X})["r0_0"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not [size for size in kept(executor) if size > 25]


def test_no_constant_of_a_file_is_made_when_the_package_is_opened(
    small_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many may be of the same bytes."""
    monkeypatch.setattr("drun.mil.blobs.unpacked", lambda *_: pytest.fail("it was read"))
    Executor(small_package)


def test_a_constant_at_the_end_that_cannot_be_made_is_refused(small_package: Package, tmp_path: Path) -> None:
    def change(function: Any) -> None:
        first(function, "constexpr_lut_to_dense").inputs["indices"].CopyFrom(beyond(function))
        block(function).outputs[:] = [first(function, "constexpr_lut_to_dense").outputs[0].name]

    executor = Executor(Package(changed(small_package, tmp_path, change)))
    with pytest.raises(
        BundleError, match=r"^cannot compute '.*': .* got the index 255, its palettes have 16; export it"
    ):
        executor.run({"c0_0": X})


def beyond(function: Any) -> Any:
    """An argument with indices that no palette of 16 has."""
    given = first(function, "constexpr_lut_to_dense").inputs["indices"]
    value = type(given)().arguments.add().value
    value.type.tensorType.dataType, value.type.tensorType.rank = 31, 2
    for side in INDICES.shape:
        value.type.tensorType.dimensions.add().constant.size = side
    value.immediateValue.tensor.bytes.values = b"\xff" * INDICES.size
    found = type(given)()
    found.arguments.add().value.CopyFrom(value)
    return found


def test_constants_that_are_compressed_over_and_over_are_refused(small_package: Package, tmp_path: Path) -> None:
    """Each would be made from scratch, and so would what it is made of."""

    def change(function: Any) -> None:
        operations, source = block(function).operations, first(function, "constexpr_lut_to_dense")
        place = list(operations).index(source)
        for number in range(6):
            made = type(source)(type="constexpr_blockwise_shift_scale")
            made.outputs.add().CopyFrom(source.outputs[0])
            made.outputs[0].name = f"more{number}"
            before = source.outputs[0].name if number == 0 else f"more{number - 1}"
            for name in ("data", "scale"):
                made.inputs[name].arguments.add(name=before)
            operations.insert(place + 1 + number, made)

    folder = changed(small_package, tmp_path, change)
    with pytest.raises(BundleError, match=r"\(constexpr_blockwise_shift_scale\) is compressed over 4 times"):
        Executor(Package(folder))


def test_values_that_take_too_much_memory_are_refused(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_LIVE_BYTES", 2 * 32 * 4 - 1)
    with pytest.raises(BundleError, match=r"its values take .* GiB at a time, expected at most .*; export it again"):
        Executor(package)
    monkeypatch.setattr(plan, "MAX_LIVE_BYTES", 2 * 32 * 4)
    Executor(package)


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
