from __future__ import annotations

import pytest

from dbench.core import timing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements without pauses between them."""
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
