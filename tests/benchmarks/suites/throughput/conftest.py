from __future__ import annotations

import pytest
import torch

from dbench.core import matmuls


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matmuls.MATMUL_SIDE, "cpu", 128)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half a minute; a slow test has it."""
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
