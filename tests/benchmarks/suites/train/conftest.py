from __future__ import annotations

import pytest

from dbench.suites.train import work


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(work.MATMUL_SIDE, "cpu", 128)
