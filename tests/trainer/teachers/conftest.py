"""Pictures for teachers to look at."""

import pytest
from tiny_teachers import picture
from torch import Tensor


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth shapes, an edge and some noise: uint8 (2, 256, 256, 3)."""
    return picture(256)
