"""How near the numbers of a run come to the ends of fp16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Case, write

from drun.mil.executor import Executor
from drun.mil.health import Health


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


def test_the_health_of_a_program_in_float32(tmp_path: Path) -> None:
    assert Health().describe() is None
    health = health_of(Case("exp", lambda mb, a: mb.exp(x=a), [np.array([1.0, 2.0], np.float32)]), tmp_path)
    assert health.describe().startswith("the largest number is 7.389, in ")
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
