"""Images by number from whatever holds them, with their labels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drun.errors import DataError
from dtrain.data.image_files import Look
from dtrain.data.sources import ImageSource, open_source

STACK = np.random.default_rng(0).integers(0, 256, (2, 6, 5), dtype=np.uint8)


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (5, 6), grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; one of them comes as a stack and a picture."""
    root = tmp_path / "photos"
    picture(root / "cat" / "b.png", "RGB", grey=1)
    (root / "dog").mkdir()
    np.save(root / "dog" / "a.npy", STACK)
    picture(root / "dog" / "c[0].png", grey=2)
    picture(root / ".hidden" / "d.png")
    return root


def labels(source: ImageSource) -> list[int] | None:
    found, _ = source.labels()
    return None if found is None else found.tolist()


def test_a_folder_may_hold_stacks(folder: Path) -> None:
    source = open_source(folder)
    assert source.names == ["cat/b.png", "dog/a.npy[0]", "dog/a.npy[1]", "dog/c[0].png"]
    assert [np.asarray(source.read(i)).flat[0] for i in (0, 3)] == [1, 2]
    assert all(np.array_equal(source.read(1 + row), STACK[row]) for row in range(2))
    assert [source.look(i) for i in range(4)] == [Look(5, 6, grey) for grey in (False, True, True, True)]
    assert labels(source) == [0, 1, 1, 1]
    assert source.labels()[1] == ["cat", "dog"]


def test_labels_of_dataset_json_have_no_names(folder: Path) -> None:
    names = open_source(folder).names
    pairs = [[name, number] for number, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    (folder / "empty").mkdir()  # no class here
    assert labels(open_source(folder)) == [0, 1, 2, 3]
    assert open_source(folder).labels()[1] is None


def test_without_class_folders_there_are_no_labels(folder: Path) -> None:
    picture(folder / "e.png")
    assert open_source(folder).labels() == (None, None)


def test_an_empty_class_folder(folder: Path) -> None:
    (folder / "bird").mkdir()
    with pytest.raises(DataError, match=r"the class folder '.*/bird' is empty: put its images there, or remove it"):
        open_source(folder).labels()
    (folder / "bird" / "notes.txt").write_text("of other things")
    assert open_source(folder).labels()[1] == ["cat", "dog"]


def test_a_link_to_nothing_is_named(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"cannot look at '.*gone\.png': No such file or directory; repair or remove"):
        open_source(folder)


def test_a_zip_is_as_its_folder(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat/b.png", "dog/c[0].png"):
            archive.write(folder / name, name)
    source = open_source(tmp_path / "a.zip")
    assert (source.names, labels(source)) == (["cat/b.png", "dog/c[0].png"], [0, 1])
    assert [source.look(i).is_grey for i in range(2)] == [False, True]


def test_a_stack_and_its_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=STACK, labels=[7, 3])
    source = open_source(tmp_path / "a.npz")
    assert (source.names, labels(source)) == (["a.npz[0]", "a.npz[1]"], [7, 3])
    assert np.array_equal(source.read(1), STACK[1])
    assert source.look(1) == Look(5, 6, True)


def test_fingerprints_follow_the_files(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=STACK)
    before = [open_source(path).fingerprint for path in (folder, tmp_path / "a.npz")]
    assert before == [open_source(path).fingerprint for path in (folder, tmp_path / "a.npz")]
    np.save(folder / "dog" / "a.npy", STACK[:1])
    np.savez(tmp_path / "a.npz", images=STACK[:1])
    assert not set(before) & {open_source(path).fingerprint for path in (folder, tmp_path / "a.npz")}


def test_digits_is_a_word_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "digits" / "a.png")
    assert len(open_source("digits").names) == 1797
    assert open_source("./digits").names == open_source(Path("digits")).names == ["a.png"]


# ---- headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix", "look"),
    [
        ("1", "png", Look(5, 6, True)), ("LA", "png", Look(5, 6, True, True)), ("P", "png", Look(5, 6, False)),
        ("RGBA", "png", Look(5, 6, False, True)), ("CMYK", "jpg", Look(5, 6, False)),
        ("I;16", "tif", Look(5, 6, True, False, True)),
    ],
)  # fmt: skip
def test_what_headers_say(tmp_path: Path, mode: str, suffix: str, look: Look) -> None:
    picture(tmp_path / f"a.{suffix}", mode)
    assert open_source(tmp_path).look(0) == look
    assert open_source(tmp_path).read(0).mode == ("L" if look.is_grey else "RGB")


def test_headers_that_cannot_be_read(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"cannot decode image '.*a\.png': .*; repair or remove it"):
        open_source(tmp_path).look(0)
    picture(tmp_path / "a.tif", "F")
    with pytest.raises(DataError, match=r"cannot decode image '.*a\.tif': got 32-bit values"):
        open_source(tmp_path).look(1)


# ---- what is no source ----------------------------------------------------------------------------------


def test_idx_files_beside_pictures(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes.fromhex("00000803 00000001 00000001 00000001 07"))
    assert np.asarray(open_source(tmp_path).read(0)).tolist() == [[7]]
    picture(tmp_path / "pictures" / "a.png")
    with pytest.raises(DataError, match=r"holds both 'train-images-idx3-ubyte' and pictures such as '.*a\.png': name"):
        open_source(tmp_path)
    assert open_source(tmp_path / "train-images-idx3-ubyte").names == ["train-images-idx3-ubyte[0]"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no such file or folder '.*gone'"), ("gone.npz", "cannot read the arrays of .*gone.npz': there is no"),
        ("a.png", r"got the file '.*a\.png', expected a folder, a .zip of images, a .npy, .npz or idx file"),
    ],
)  # fmt: skip
def test_what_is_no_source(tmp_path: Path, name: str, message: str) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / name)
