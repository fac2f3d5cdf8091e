"""ONNX Runtime as a peer."""

from __future__ import annotations

import pytest
from agreement import error_of

from dbench.suites.peers.libraries import Material, ort


@pytest.mark.parametrize("batch", [1, 3])
def test_it_computes_what_eager_computes(sit_material: Material, batch: int) -> None:
    (peer,) = ort.peers(sit_material)
    assert peer.precision == "fp32"
    assert 0 < error_of(peer, sit_material, batch) < 1e-5
