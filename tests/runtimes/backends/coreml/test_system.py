"""What a Mac says of itself."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from drun.backends.coreml import system


def test_this_is_no_mac() -> None:
    assert not system.is_mac()
    assert system.major() == 0


@pytest.mark.usefixtures("mac")
def test_version_build_and_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (system.is_mac(), system.version(), system.major()) == (True, "15.5", 15)
    assert system.units() == {"cpu", "gpu", "ane"}
    path = tmp_path / "SystemVersion.plist"
    path.write_bytes(plistlib.dumps({"ProductBuildVersion": "24F74"}))
    monkeypatch.setattr(system, "VERSIONS", path)
    assert system.build() == "24F74"
    path.write_bytes(b"damaged")
    assert system.build()
