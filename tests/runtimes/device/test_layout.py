"""A step table as a device reads it."""

from __future__ import annotations

import numpy as np

from drun.device.layout import COLUMNS, table_for_device
from drun.diffusion.arrays import interpolated_std
from drun.diffusion.table import Row, StepTable


def rows() -> StepTable:
    return StepTable(
        (
            Row(t=3.0, p=0.1, q=0.2, a=0.3, b=0.4, c=0.5),
            Row(t=2.0, p=0.0, q=1.0, a=1.5, b=-2.5, d=(7.0,), w=1.8),
            Row(t=1.0, p=0.0, q=1.0, a=1.0, b=0.0, d=(8.0, 9.0), log_variance=(-4.0, -1.0), w=2.0),
        )
    )


def test_a_row_is_its_columns_then_the_weights_of_earlier_estimates() -> None:
    table = table_for_device(rows(), has_labels=True)
    first = dict(zip(COLUMNS, table.columns[0, :9].tolist(), strict=True))
    assert [first[name] for name in "tpqabcw"] == np.float32([3, 0.1, 0.2, 0.3, 0.4, 0.5, 1]).tolist()
    assert table.columns[:, 9:].tolist() == [[0, 0], [7, 0], [8, 9]]
    assert (table.columns.dtype, table.columns.flags.c_contiguous) == (np.float32, True)


def test_draws_are_numbered_in_the_stream() -> None:
    assert table_for_device(rows(), True).draws.tolist() == [1, 0, 2]
    assert table_for_device(rows(), True, first_draw=4).draws.tolist() == [4, 0, 5]


def test_only_networks_with_labels_are_guided() -> None:
    assert table_for_device(rows(), has_labels=True).is_guided == (False, True, True)
    alone = table_for_device(rows(), has_labels=False)
    assert alone.is_guided == (False, False, False)
    assert alone.columns[:, COLUMNS.index("w")].tolist() == [1, 1, 1]


def test_a_learned_variance_is_a_slope_and_an_offset() -> None:
    columns = table_for_device(rows(), has_labels=True).columns
    slope, offset = (columns[:, COLUMNS.index(f"log_std_{name}")] for name in ("slope", "offset"))
    assert np.isnan(slope[:2]).all()
    v = np.linspace(-1, 1, 9, dtype=np.float32)
    np.testing.assert_allclose(np.exp(v * slope[2] + offset[2]), interpolated_std(v, -4.0, -1.0), rtol=1e-6)
