from __future__ import annotations

import pytest

from dbench.core import matmuls


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matmuls.MATMUL_SIDE, "cpu", 128)
