"""The real images of a comparison."""

from __future__ import annotations

import pytest

from dbench.suites.repa import plan, real
from dbench.suites.repa.real import open_real
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent


def test_a_choice_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "MOST_REFERENCE", 100)
    monkeypatch.setattr(real, "MOST_READ", 30)
    found = open_real(plan.plain_recipe(RepaSettings(), 0), 20, silent)
    assert (found.images.shape, len(found.reference)) == ((120, 16, 16, 1), 100)
    images, labels = found.read()
    assert labels is not None
    assert (len(images), len(labels)) == (30, 30)
    assert len({image.tobytes() for image in found.images}) > 110
    assert (labels.min(), labels.max()) >= (0, 5)
    again = open_real(plan.plain_recipe(RepaSettings(), 1), 20, silent)
    assert (again.images == found.images).all()
