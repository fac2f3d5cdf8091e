"""ONNX Runtime as a peer."""

from __future__ import annotations

import pytest
from agreement import error_of

from dbench.suites.peers.libraries import Ingredients, ort

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("batch", [1, 3])
def test_it_computes_what_eager_computes(sit_ingredients: Ingredients, batch: int) -> None:
    (peer,) = ort.peers(sit_ingredients)
    assert peer.precision == "fp32"
    assert 0 < error_of(peer, sit_ingredients, batch) < 1e-5
