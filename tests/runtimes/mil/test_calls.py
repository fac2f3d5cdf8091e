"""Arguments are filled up, and are of the types that Core ML takes."""

from __future__ import annotations

import numpy as np

from drun.mil.calls import arguments


def test_floats_and_labels() -> None:
    x, y = np.ones((2, 3), np.float32), np.array([7, 8])
    found = arguments(["x", "y", "out"], [x, y], 4)
    assert found.keys() == {"x", "y"}
    np.testing.assert_array_equal(found["x"], [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found["y"], [7, 8, 0, 0])
    assert (found["x"].dtype, found["y"].dtype) == (np.float32, np.int32)


def test_what_fits_is_not_copied() -> None:
    x = np.ones((2, 3), np.float32)
    assert arguments(["x"], [x], 2)["x"] is x
