"""PyTorch as a peer: what is compiled computes the same."""

from __future__ import annotations

import pytest
from agreement import error_of

from dbench.suites.peers.libraries import Material, pytorch

pytestmark = pytest.mark.filterwarnings("ignore")  # of inductor, about itself


def test_eager_in_both_precisions(sit_material: Material) -> None:
    peers = {peer.name: peer for peer in pytorch.peers(sit_material)}
    assert [*peers] == ["eager PyTorch, fp32", "eager PyTorch, bf16", "torch.compile, fp32", "torch.compile, bf16"]
    assert error_of(peers["eager PyTorch, fp32"], sit_material, 2) == 0
    assert 1e-4 < error_of(peers["eager PyTorch, bf16"], sit_material, 2) < 3e-2


@pytest.mark.slow
def test_compiled(sit_material: Material) -> None:
    peers = {peer.name: peer for peer in pytorch.peers(sit_material)}
    assert 0 < error_of(peers["torch.compile, fp32"], sit_material, 2) < 1e-5
