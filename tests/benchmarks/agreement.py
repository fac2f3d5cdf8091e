"""How far a peer is from eager PyTorch."""

from __future__ import annotations

import numpy as np
import torch

from dbench.suites.peers import plain
from dbench.suites.peers.libraries import Ingredients, Peer


def error_of(peer: Peer, ingredients: Ingredients, batch: int) -> float:
    """Relative L2 of a call."""
    given = plain.inputs(ingredients.card, batch)
    with torch.no_grad():
        expected = ingredients.network(*map(torch.from_numpy, given)).numpy()
    got = peer.open(given)(*given)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
