"""Pictures, and the tiny VAE that encodes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from noise_pictures import noise, tiny_vae


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_vae(tmp_path_factory.mktemp("vae")))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven images of many sizes in two classes, one of them two levels deep."""
    root = tmp_path / "pictures"
    for number, name in enumerate(["dog/b.png", "cat/a.png", "dog/a.bmp", "cat/x/z.png", "dog/c.png", "cat/c.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(17 + 9 * number, 70 - 8 * number, number).save(root / name)
    noise(40, 80, 9).convert("L").save(root / "dog" / "grey.tif")
    (root / "readme.txt").write_text("no image")
    (root / "cat" / "._a.png").write_bytes(b"resource fork")
    return root
