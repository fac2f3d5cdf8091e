"""ML Programs that coremltools itself writes, and what its own value inference says of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.console import log_level
from drun.mil.executor import Executor
from drun.mil.package import Package

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One operation on some inputs.

    build: makes it of variables or of constants. reference: an independent computation; None: coremltools' own.
    """

    name: str
    build: Callable[..., Any]
    inputs: Sequence[Array]
    reference: Callable[..., Any] | None = None
    rtol: float = 1e-5
    is_inferred: bool = True  # whether coremltools infers it rightly; otherwise there is a reference alone

    @property
    def id(self) -> str:
        return self.name


def library() -> Any:
    """coremltools, which warns of the torch that it was not tested with."""
    with log_level("coremltools", logging.ERROR):
        import coremltools
    return coremltools


@contextmanager
def quiet() -> Any:
    with log_level("coremltools", logging.ERROR):
        yield


def write(cases: Sequence[Case], folder: Path, target: str = "iOS18") -> Package:
    """One program with all cases: the inputs of case 3 are c3_0, c3_1, ..., its results r3_0, ..."""
    ct = library()
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil import mil
    from coremltools.converters.mil.mil import types

    inputs = {f"c{place}_{i}": array for place, case in enumerate(cases) for i, array in enumerate(case.inputs)}
    kinds = {"f": types.fp32, "i": types.int32}
    holders = {name: mb.placeholder(one.shape, dtype=kinds[one.dtype.kind]) for name, one in inputs.items()}
    opset = getattr(ct.target, target)
    program, found = mil.Program(), []
    with quiet(), mil.Function(holders, opset_version=opset) as function:
        for place, case in enumerate(cases):
            made = case.build(mb, *(function.inputs[f"c{place}_{i}"] for i in range(len(case.inputs))))
            for i, one in enumerate(made if isinstance(made, tuple | list) else [made]):
                if one.dtype == types.bool:
                    one = mb.cast(x=one, dtype="int32")
                found.append(mb.identity(x=one, name=f"r{place}_{i}"))
        function.set_outputs(found)
        program.add_function("main", function)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=opset,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(folder / "cases.mlpackage"))
    return Package(folder / "cases.mlpackage")


def changed(package: Package, beside: Path, change: Callable[[Any], None]) -> Path:
    """A copy whose main function was changed."""
    folder = shutil.copytree(package.folder, beside / "changed.mlpackage")
    spec = library().models.MLModel(str(folder), skip_model_load=True).get_spec()
    change(spec.mlProgram.functions["main"])
    Package(folder).path.write_bytes(spec.SerializeToString())
    return folder


def block(function: Any) -> Any:
    """That of a function, which has one."""
    return next(iter(function.block_specializations.values()))


def first(function: Any, kind: str) -> Any:
    """The first operation of a type."""
    return next(one for one in block(function).operations if one.type == kind)


def run(cases: Sequence[Case], folder: Path, target: str = "iOS18", mode: str = "ideal") -> list[list[Array]]:
    """The results of each case by our executor."""
    executor = Executor(write(cases, folder, target), mode=mode)
    given = {f"c{place}_{i}": array for place, case in enumerate(cases) for i, array in enumerate(case.inputs)}
    found = executor.run(given)
    results: list[list[Array]] = [[] for _ in cases]
    for place, i in sorted(tuple(map(int, name[1:].split("_"))) for name in found):
        results[place].append(found[f"r{place}_{i}"])
    return results


def inferred(case: Case, target: str = "iOS18") -> list[Array] | None:
    """What coremltools computes of the same operation on constants; None where it cannot."""
    ct = library()
    from coremltools.converters.mil import Builder as mb

    found: list[Any] = []

    def body() -> Any:
        made = case.build(mb, *(array.copy() for array in case.inputs))  # some of them write into their inputs
        found.extend(made if isinstance(made, tuple | list) else [made])
        return tuple(found)

    with quiet():
        mb.program(input_specs=[], opset_version=getattr(ct.target, target))(body)
    values = [one.val for one in found]
    return None if any(value is None for value in values) else [np.asarray(value) for value in values]


def check(case: Case, results: Sequence[Array], target: str = "iOS18") -> None:
    """Compare results with the reference and with coremltools, at least one of which there must be."""
    own = inferred(case, target) if case.is_inferred else None
    assert case.reference is not None or own is not None, f"{case.name} has nothing to be compared with"
    if case.reference is not None:
        expected = case.reference(*case.inputs)
        _compare(case, results, list(expected) if isinstance(expected, tuple | list) else [expected])
    if own is not None:
        _compare(case, results, own)


def _compare(case: Case, results: Sequence[Array], expected: Sequence[Any]) -> None:
    assert len(results) == len(expected)
    for got, wanted in zip(results, expected, strict=True):
        reference = np.asarray(wanted)
        assert got.shape == reference.shape, case.name
        np.testing.assert_allclose(got, reference, rtol=case.rtol, atol=case.rtol, err_msg=case.name)
