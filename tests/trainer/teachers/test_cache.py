import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from drun.errors import DataError
from dtrain import config, models, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.models.vit import ViT
from dtrain.teachers import Teacher
from dtrain.teachers.cache import Features, ensure_features, open_features, write_features

CPU = torch.device("cpu")
TINY = {
    "image_size": 16, "patch_size": 4, "channels": 1, "num_classes": 10, "hidden_size": 16, "depth": 1, "num_heads": 2,
}  # fmt: skip


def make_teacher(folder: Path, seed: int = 0, brightest: float = 0.0, gain: float = 1.0) -> Teacher:
    """A tiny ViT of ours. brightest: a weight of pixels that black ones cancel, so only light images overflow."""
    torch.manual_seed(seed)
    network = models.build({"name": "ViT", **TINY})
    assert isinstance(network, ViT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        network.norm.weight *= gain
        if brightest:
            projection = network.x_embedder.proj
            projection.weight.zero_()
            projection.weight[:, 0, 0, 0] = brightest
            projection.bias.fill_(brightest)
    recipe = config.Recipe("digits-teacher", {"name": "ViT", **TINY}, {}, {}, config.Data(16), config.Train(10, 4))
    state = network.state_dict()
    return teachers.load(str(checkpoint.save(Checkpoint(recipe, 1, state, state, {}), folder, 1)), 16, CPU)


def everything(features: Features) -> NDArray[np.float16]:
    return features.read(np.arange(len(features)))


@pytest.fixture
def teacher(tmp_path: Path) -> Teacher:
    return make_teacher(tmp_path / "teacher")


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (11, 16, 16, 1), dtype=np.uint8)


def test_the_file_holds_the_features_of_every_image(
    tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8]
) -> None:
    np.save(tmp_path / "images.npy", images)
    stack = np.load(tmp_path / "images.npy", mmap_mode="r")  # read-only, as the training data is
    reports: list[tuple[str, int, int]] = []
    write_features(stack, teacher, tmp_path / "f.npy", "data", 4, lambda *args: reports.append(args))
    opened = open_features(tmp_path / "f.npy", teacher, "data")
    assert opened is not None
    assert isinstance(opened.array, np.memmap)
    features = opened.read(np.arange(11))
    assert features.dtype == np.float16
    assert features.shape == (11, 16, 16)
    np.testing.assert_allclose(features, teacher(torch.from_numpy(images)).numpy(), atol=4e-3)
    assert np.abs(features).max() > 0.5
    assert reports == [("teacher features", done, 11) for done in (4, 8, 11)]
    assert {path.name for path in tmp_path.iterdir()} == {"teacher", "images.npy", "f.npy", "f.npy.json"}


def test_current_features_are_used_again(tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8]) -> None:
    path, reports = tmp_path / "f.npy", list[object]()
    first = everything(ensure_features(images, teacher, path, "data", 4, lambda *args: reports.append(args)))
    written = path.stat().st_mtime_ns
    again = everything(ensure_features(images, teacher, path, "data", 3, lambda *args: reports.append(args)))
    assert path.stat().st_mtime_ns == written
    assert len(reports) == 3
    np.testing.assert_array_equal(again, first)


def test_features_of_another_teacher_or_other_data_are_not_used(
    tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8]
) -> None:
    path, other = tmp_path / "f.npy", make_teacher(tmp_path / "other", seed=1)
    assert open_features(path, teacher, "data") is None
    first = everything(ensure_features(images, teacher, path, "data", 4))
    assert open_features(path, other, "data") is None
    assert open_features(path, teacher, "other data") is None
    second = everything(ensure_features(images, other, path, "data", 4))
    np.testing.assert_allclose(second, other(torch.from_numpy(images)).numpy(), atol=4e-3)
    assert np.abs(second - first).max() > 0.1
    assert open_features(path, teacher, "data") is None
    assert len(ensure_features(images[:5], other, path, "data", 4)) == 5  # a fingerprint that the caller forgot


@pytest.mark.parametrize("damage", ["array", "record", "type", "no record", "no array", "nested", "half", "negative"])
def test_damaged_features_are_computed_again(
    tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8], damage: str
) -> None:
    path, record = tmp_path / "f.npy", tmp_path / "f.npy.json"
    expected = everything(ensure_features(images, teacher, path, "data", 4))
    if damage == "array":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "type":
        np.save(path, np.zeros((11, 16, 16), np.float32))
    elif damage == "record":
        record.write_text(record.read_text()[:20])
    elif damage == "nested":
        record.write_text("[" * 100_000)
    elif damage in ("half", "negative"):
        told = json.loads(record.read_text())
        told["crc32"] = told["crc32"][:5] if damage == "half" else [-1] * 11
        record.write_text(json.dumps(told))
    else:
        (record if damage == "no record" else path).unlink()
    assert open_features(path, teacher, "data") is None
    np.testing.assert_array_equal(everything(ensure_features(images, teacher, path, "data", 4)), expected)
    assert json.loads(record.read_text())["shape"] == [11, 16, 16]


@pytest.mark.parametrize("value", [b"\x00\x7e", b"\x01\x00"])
def test_damaged_bytes_are_not_believed(
    tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8], value: bytes
) -> None:
    path = tmp_path / "f.npy"
    ensure_features(images, teacher, path, "data", 4)
    with path.open("r+b") as file:  # a NaN, or a number that is nearly 0
        file.seek(-(16 * 16 * 2 * 3 + 64), 2)
        file.write(value)
    features = ensure_features(images, teacher, path, "data", 4)
    assert np.isfinite(features.read(np.array([0, 1, 8, 10, 0]))).all()
    with pytest.raises(DataError, match=r"features of image 7 in '.*f\.npy' are damaged: delete it and run again"):
        features.read(np.array([1, 7]))


def test_features_that_are_not_finite_name_the_first_image(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "teacher", brightest=3e38)
    images = np.zeros((9, 16, 16, 1), np.uint8)
    path = tmp_path / "f.npy"
    ensure_features(images, teacher, path, "data", 4)
    images[[6, 8]] = 255
    with pytest.raises(DataError, match="'digits-teacher' gives image 6 features that are NaN or infinite"):
        ensure_features(images, teacher, path, "brighter data", 4)
    assert open_features(path, teacher, "brighter data") is None
    assert open_features(path, teacher, "data") is None  # its record went first
    with pytest.raises(DataError, match="gives image 6"):
        write_features(images, teacher, tmp_path / "new.npy", "data", 4)
    assert not list(tmp_path.glob("*new.npy*"))


def test_features_beyond_float16_are_refused(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    teacher = make_teacher(tmp_path / "teacher", gain=1e5)
    assert teacher(torch.from_numpy(images)).isfinite().all()
    with pytest.raises(DataError, match=r"gives image 0 features that reach .*above 65504, the largest of float16"):
        write_features(images, teacher, tmp_path / "f.npy", "data", 4)
    assert not list(tmp_path.glob("*f.npy*"))


def test_images_that_the_teacher_does_not_take_are_refused(
    tmp_path: Path, teacher: Teacher, images: NDArray[np.uint8]
) -> None:
    with pytest.raises(DataError, match="there are no images"):
        write_features(images[:0], teacher, tmp_path / "f.npy", "data", 4)
    with pytest.raises(DataError, match=r"got images of uint8 \(4, 8, 16, 1\)"):
        write_features(images[:, :8], teacher, tmp_path / "f.npy", "data", 4)
    assert not list(tmp_path.glob("*f.npy*"))
