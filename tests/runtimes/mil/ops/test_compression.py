"""Constants in fewer bits: the examples of the definitions, and coremltools' own decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mil_programs import Array, Case, check, library, run

from drun.mil.ops.compression import constexpr_lut_to_dense, constexpr_sparse_to_dense

RNG = np.random.default_rng(0)
#: The first example of constexpr_lut_to_dense: two palettes over the first axis.
INDICES = np.array([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]])
PALETTES = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float32).reshape(2, 1, 4, 1)
FROM_PALETTES = np.array([[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]], np.float32)
#: Its second: vectors of three.
BITS = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]])
VECTORS = np.array([[1, 2, 3], [4, 5, 6]], np.float32).reshape(1, 1, 1, 2, 3)
#: The example of the sparse forms.
MASK = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]])
SPARSE_BITS = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1])
BLOCKS, SCALES, OFFSETS = (
    RNG.integers(-8, 8, (4, 6)),
    RNG.standard_normal((2, 3)).astype(np.float32),
    RNG.integers(-8, 8, (2, 3)),
)
BYTES = RNG.integers(0, 256, (3, 5), dtype=np.uint8)
ROWS = RNG.standard_normal(3).astype(np.float32)


def small(values: Array, dtype: str) -> Array:
    """In one of coremltools' types of fewer than 8 bits."""
    library()
    from coremltools.converters.mil.mil import types

    return np.asarray(values).astype(getattr(types, f"np_{dtype}_dtype"))


def constant(shape: tuple[int, ...], build: Callable[[Any], Any]) -> Callable[..., Any]:
    """A case may not be without an input: the constant is added to zeros."""
    return lambda mb, a: mb.add(x=a, y=build(mb))


def zeros(*shape: int) -> list[Array]:
    return [np.zeros(shape, np.float32)]


def dense(values: Array) -> Array:
    out = np.zeros(MASK.shape, np.float32)
    out[MASK == 1] = values
    return out


def spread(values: Array) -> Array:
    return values.repeat(2, 0).repeat(2, 1)


CASES = [
    Case(
        "palettes",
        constant((6, 2), lambda mb: mb.constexpr_lut_to_dense(indices=small(INDICES, "uint2"), lut=PALETTES)),
        zeros(6, 2),
        lambda _: FROM_PALETTES,
    ),
    Case(
        "vectors along axis 1",
        constant(
            (2, 6, 2),
            lambda mb: mb.constexpr_lut_to_dense(indices=small(BITS, "uint1"), lut=VECTORS, vector_axis=np.int32(1)),
        ),
        zeros(2, 6, 2),
        lambda _: np.array(
            [[[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]], [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]]]
        ),
    ),
    Case(
        "vectors along axis 2",
        constant(
            (2, 2, 6),
            lambda mb: mb.constexpr_lut_to_dense(indices=small(BITS, "uint1"), lut=VECTORS, vector_axis=np.int32(-1)),
        ),
        zeros(2, 2, 6),
        lambda _: np.array([[[1, 2, 3, 1, 2, 3], [4, 5, 6, 1, 2, 3]], [[4, 5, 6, 4, 5, 6], [1, 2, 3, 1, 2, 3]]]),
    ),
    *(
        Case(
            f"palette of {bits} bits",
            constant(
                (5, 7),
                lambda mb, b=bits: mb.constexpr_lut_to_dense(
                    indices=small(np.arange(35).reshape(5, 7) % 2**b, f"uint{b}")
                    if b < 8
                    else (np.arange(35).reshape(5, 7)).astype(np.uint8),
                    lut=np.arange(2**b, dtype=np.float32).reshape(1, 1, -1, 1) * 3,
                ),
            ),
            zeros(5, 7),
            lambda _, b=bits: 3.0 * (np.arange(35).reshape(5, 7) % 2**b),
        )
        for bits in (1, 2, 3, 4, 6, 8)
    ),
    Case(
        "blocks of int4",
        constant(
            (4, 6),
            lambda mb: mb.constexpr_blockwise_shift_scale(
                data=small(BLOCKS, "int4"), scale=SCALES, offset=small(OFFSETS, "int4")
            ),
        ),
        zeros(4, 6),
        lambda _: spread(SCALES) * (BLOCKS - spread(OFFSETS)),
    ),
    Case(
        "blocks of int8 without offset",
        constant((4, 6), lambda mb: mb.constexpr_blockwise_shift_scale(data=BLOCKS.astype(np.int8), scale=SCALES)),
        zeros(4, 6),
        lambda _: spread(SCALES) * BLOCKS,
    ),
    Case(
        "sparse",
        constant(
            (4, 6),
            lambda mb: mb.constexpr_sparse_to_dense(
                nonzero_data=np.arange(1, 10, dtype=np.float32), mask=small(MASK, "uint1")
            ),
        ),
        zeros(4, 6),
        lambda _: dense(np.arange(1, 10)),
    ),
    Case(
        "sparse palettes",
        constant(
            (4, 6),
            lambda mb: (lambda found: mb.constexpr_sparse_to_dense(nonzero_data=found[1], mask=found[0]))(
                mb.constexpr_lut_to_sparse(
                    indices_mask=small(MASK, "uint1"),
                    indices_nonzero_data=small(SPARSE_BITS, "uint1"),
                    lut=np.array([2, 3], np.float32).reshape(1, 1, 2, 1),
                )
            ),
        ),
        zeros(4, 6),
        lambda _: dense(SPARSE_BITS + 2),
    ),
    Case(
        "sparse vectors",
        constant(
            (8, 6),
            lambda mb: (lambda found: mb.constexpr_sparse_to_dense(nonzero_data=found[1], mask=found[0]))(
                mb.constexpr_lut_to_sparse(
                    indices_mask=small(MASK, "uint1"),
                    indices_nonzero_data=small(SPARSE_BITS, "uint1"),
                    lut=np.array([[2, 20], [3, 30]], np.float32).reshape(1, 1, 2, 2),
                    vector_axis=np.int32(0),
                )
            ),
        ),
        zeros(8, 6),
        lambda _: np.stack([dense(SPARSE_BITS + 2), 10 * dense(SPARSE_BITS + 2)], 1).reshape(8, 6),
    ),
    Case(
        "sparse blocks",
        constant(
            (4, 6),
            lambda mb: (lambda found: mb.constexpr_sparse_to_dense(nonzero_data=found[1], mask=found[0]))(
                mb.constexpr_sparse_blockwise_shift_scale(
                    data_mask=small(MASK, "uint1"),
                    nonzero_data=np.arange(1, 10, dtype=np.int8),
                    scale=SCALES,
                    offset=OFFSETS.astype(np.int8),
                )
            ),
        ),
        zeros(4, 6),
        lambda _: np.where(MASK, spread(SCALES) * (dense(np.arange(1, 10)) - spread(OFFSETS)), 0),
    ),
    Case(
        "quantize",
        lambda mb, a: mb.cast(
            x=mb.quantize(input=a, scale=np.float32(0.1), zero_point=np.int8(3), output_dtype="int8"), dtype="int32"
        ),
        [np.array([-99.0, -0.26, 0.0, 0.26, 99.0], np.float32)],
        lambda _: np.array([-128, 0, 3, 6, 127]),
    ),
    Case(
        "quantize and dequantize an axis",
        lambda mb, a: mb.dequantize(
            input=mb.quantize(input=a, scale=np.abs(ROWS), axis=np.int32(0), output_dtype="int8"),
            scale=np.abs(ROWS),
            axis=np.int32(0),
        ),
        [np.outer(ROWS, np.arange(5)).astype(np.float32)],
        lambda x: x,
    ),
]

OLD_CASES = [
    Case(
        "affine",
        constant(
            (3, 5),
            lambda mb: mb.constexpr_affine_dequantize(
                quantized_data=BYTES, zero_point=np.uint8(7), scale=ROWS, axis=np.int32(0)
            ),
        ),
        zeros(3, 5),
        lambda _: ROWS[:, None] * (BYTES.astype(np.float32) - 7),
    ),
    Case(
        "packed palette",
        constant(
            (5,),
            lambda mb: mb.constexpr_lut_to_dense(
                indices=np.array([0b01101100, 0b00000011], np.uint8),
                lut=np.array([10, 11, 12, 13], np.float32),
                shape=np.array([5], np.uint32),
            ),
        ),
        zeros(5),
        lambda _: np.array([10, 13, 12, 11, 13]),
    ),
    Case(
        "packed mask",
        constant(
            (5,),
            lambda mb: mb.constexpr_sparse_to_dense(
                nonzero_data=np.array([3.0, 5.0], np.float32),
                mask=np.array([0b00001100], np.uint8),
                shape=np.array([5], np.uint32),
            ),
        ),
        zeros(5),
        lambda _: np.array([0, 0, 3, 5, 0]),
    ),
    Case(
        "cast",
        constant((3,), lambda mb: mb.constexpr_cast(source_val=np.array([1, 2, 3], np.float16), output_dtype="fp32")),
        zeros(3),
        lambda _: np.array([1, 2, 3]),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("compression"))


@pytest.fixture(scope="module")
def old_results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(OLD_CASES, tmp_path_factory.mktemp("old"), "iOS17")


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_from_ios_18_on(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


@pytest.mark.parametrize("place", range(len(OLD_CASES)), ids=[case.id for case in OLD_CASES])
def test_before(place: int, old_results: list[list[Array]]) -> None:
    check(OLD_CASES[place], old_results[place], "iOS17")


def test_constants_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got palettes \(2, 1, 4, 1\) for indices \(5, 2\)"):
        constexpr_lut_to_dense(INDICES[:5], PALETTES)
    with pytest.raises(ValueError, match=r"got the index 4, its palettes have 4"):
        constexpr_lut_to_dense(INDICES + 1, PALETTES)
    with pytest.raises(ValueError, match=r"got vectors and no vector_axis"):
        constexpr_lut_to_dense(BITS, VECTORS)
    with pytest.raises(ValueError, match=r"has 3 values for 9 places"):
        constexpr_sparse_to_dense(np.ones(3, np.float32), MASK)
