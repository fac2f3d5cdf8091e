"""The service under concurrent requests: each answer is byte for byte the one that a lone request gets."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporting import export, load_trained
from fastapi.testclient import TestClient
from networks import perturb
from PIL import Image

from dexport.proof import QUICK_PROOF
from dtrain import config, models
from dtrain.checkpoints import ours

SERVICE = Path(__file__).parents[2] / "examples" / "service" / "service.py"
MODEL = {
    "name": "SiT", "input_size": 8, "size": {"hidden_size": 16, "depth": 2, "num_heads": 2}, "channels": 1,
    "num_classes": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small SiT whose weights are nowhere zero."""
    folder = tmp_path_factory.mktemp("service")
    sections = config.load("digits-sit").to_dict() | {"model": MODEL}
    sections["data"] |= {"image_size": 8, "class_names": ["red", "green", "blue"]}
    recipe = config.from_dict(sections)
    torch.manual_seed(0)
    network = perturb(models.build(recipe.model))
    saved = ours.Checkpoint(recipe, 1, network.state_dict(), network.state_dict(), {})
    path = ours.save(saved, folder, keep=1)
    export(load_trained(path), folder / "bundle", proof=QUICK_PROOF)
    return folder / "bundle"


@pytest.fixture
def client(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("BUNDLE", str(bundle))
    spec = importlib.util.spec_from_file_location("service", SERVICE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "service", module)  # where the annotations of its functions are looked up
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        yield client


def test_concurrent_answers_are_those_of_lone_requests(client: TestClient) -> None:
    singles = [f"/image.png?seed={i // 3}&index={i}&label={i % 3}&steps={3 + i % 3}" for i in range(12)]
    grids = [f"/grid.png?n={1 + 3 * i}&seed={i}&steps=4&cfg=1.5" for i in range(4)]
    wanted = [*singles, *grids] * 2
    alone = [client.get(url).content for url in wanted]
    assert len(set(alone)) == len(wanted) / 2
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda url: client.get(url).content, wanted))
    assert together == alone


def test_a_png_shows_what_was_asked_for(client: TestClient) -> None:
    answer = client.get("/image.png", params={"steps": 3, "label": "blue"})
    assert answer.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(BytesIO(answer.content)))
    assert (pixels.shape, pixels.dtype) == ((8, 8), np.uint8)
    assert answer.content == client.get("/image.png", params={"steps": 3, "label": "2"}).content
    assert answer.content != client.get("/image.png", params={"steps": 3, "label": "red"}).content


def test_what_the_service_draws(client: TestClient) -> None:
    assert client.get("/").json() == {
        "model": "SiT", "runs_on": "ONNX Runtime on CPU", "shape": [1, 8, 8], "classes": ["red", "green", "blue"],
    }  # fmt: skip


def test_what_does_not_fit_is_refused_in_one_sentence(client: TestClient) -> None:
    answer = client.get("/image.png", params={"label": "yellow", "steps": 3})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("--labels got 'yellow', expected")
    assert client.get("/image.png", params={"steps": 0}).status_code == 422
    assert client.get("/grid.png", params={"n": 65}).status_code == 422
