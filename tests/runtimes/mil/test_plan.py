"""Which constants stay in memory, and how much a run may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Case, block, changed, first, write

from drun.errors import BundleError
from drun.mil import plan
from drun.mil.executor import Executor
from drun.mil.package import Package

X = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
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


def test_values_that_take_too_much_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write([Case("tanh", lambda mb, a: mb.tanh(x=mb.tanh(x=a)), [X])], tmp_path)
    monkeypatch.setattr(plan, "MAX_LIVE_BYTES", 2 * 32 * 4 - 1)
    with pytest.raises(BundleError, match=r"its values take .* GiB at a time, expected at most .*; export it again"):
        Executor(package)
    monkeypatch.setattr(plan, "MAX_LIVE_BYTES", 2 * 32 * 4)
    Executor(package)
