from __future__ import annotations

from pathlib import Path

import pytest
from runs import draw, results

from drun.bundle.reading import Bundle


@pytest.fixture
def whole(bundle: Bundle, tmp_path: Path) -> dict[str, bytes]:
    """The results of one uninterrupted run of 7 images."""
    draw(bundle, tmp_path / "whole")
    return results(tmp_path / "whole")
