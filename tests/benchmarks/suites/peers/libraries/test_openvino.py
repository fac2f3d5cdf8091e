"""OpenVINO as a peer, in its three precisions."""

from __future__ import annotations

import pytest
from agreement import error_of

from dbench.suites.peers.libraries import Ingredients, openvino

pytestmark = pytest.mark.slow

#: precision -> the least and the largest relative L2 error
ERRORS = {"fp32": (1e-9, 1e-5), "bf16": (1e-4, 6e-2), "int8": (1e-3, 0.5)}


def test_each_precision_is_as_far_from_eager_as_its_arithmetic(
    sit_ingredients: Ingredients, capfd: pytest.CaptureFixture[str]
) -> None:
    """The states for int8 are computed once for both batches; nothing of NNCF's log and bars is printed."""
    found = openvino.peers(sit_ingredients)
    assert {peer.precision for peer in found} >= {"fp32", "int8"}
    for peer in found:
        least, most = ERRORS[peer.precision]
        for batch in (1, 2):
            assert least < error_of(peer, sit_ingredients, batch) < most
    assert capfd.readouterr().out == ""
