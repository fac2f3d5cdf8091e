"""What a run says of its images before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drun.errors import ConfigError, DataError
from drun.files import write_json
from dtrain import config
from dtrain.data import survey as surveys
from dtrain.data.latent_index import FORMAT
from dtrain.data.shards import save_shard
from dtrain.data.survey import Survey, survey


def write(folder: Path, *images: tuple[str, str, tuple[int, int]]) -> Path:
    """(name, mode, size) each."""
    for name, mode, size in images:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(path)
    return folder


def of(source: object, *assignments: str, channels: int = 1, classes: int = 0) -> Survey:
    """For a model of 16x16 pixels."""
    model = [f"model.channels={channels}", f"model.num_classes={classes}"]
    return survey(config.load("digits-sit", [*model, "data.label_dropout=0.0", *assignments], str(source)))


@pytest.mark.parametrize(
    ("modes", "channels", "line"),
    [
        ("LL", 1, "2 images, 16x16 grey -> 16x16 grey"),
        (["RGB", "RGB"], 3, "2 images, 16x16 colour -> 16x16 colour"),
        (["L", "RGB"], 3, "2 images, 16x16 grey and colour -> 16x16 colour"),
    ],
)  # fmt: skip
def test_a_run_that_loses_nothing(tmp_path: Path, modes: list[str], channels: int, line: str) -> None:
    folder = write(tmp_path, *((f"{i}.png", mode, (16, 16)) for i, mode in enumerate(modes)))
    assert of(folder, channels=channels) == Survey(line, ())


def test_a_model_of_colours_learns_grey_only(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a.png", "L", (16, 16)), ("b.png", "L", (16, 16)))
    warning = "all images are grey, and the model draws colour: model.channels=1 is enough"
    assert of(folder, channels=3) == Survey("2 images, 16x16 grey -> 16x16 colour", (warning,))


def test_digits() -> None:
    assert of("digits", classes=10) == Survey("1,797 images, 10 classes, 16x16 grey -> 16x16 grey", ())


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    surveys.tell(config.load("digits-sit", ["model.num_classes=12"]))
    said = capsys.readouterr()
    assert said.out == "1,797 images, 10 classes, 16x16 grey -> 16x16 grey\n"
    assert said.err.startswith("warning: the model has 12 classes, the images show 10: without images it learns ")


# ---- what is lost ---------------------------------------------------------------------------------------


def test_colour_that_a_grey_model_loses(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a.png", "RGB", (16, 16)), ("b.png", "L", (16, 16)), ("c.png", "1", (16, 16)))
    lost = "1 of 3 images, such as 'a.png', is in colour, which is lost: the model draws grey (model.channels=1)"
    assert of(folder).warnings == (lost,)
    assert of(folder, channels=3).warnings == ()


def test_sizes(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a.png", "L", (32, 24)), ("b.png", "L", (10, 10)), ("c.png", "L", (16, 20)))
    assert of(folder) == Survey(
        "3 images, short side 10 to 24 grey -> 16x16 grey",
        (
            "2 of 3 images, such as 'a.png', are not square: the centre is kept, up to 25 % is cut off",
            "1 of 3 images, such as 'b.png', is smaller than 16x16 and enlarged, the smallest from 10 pixels",
        ),
    )


def test_images_of_one_larger_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 28, 28), np.uint8))
    told = "the images are 28x28, and lose detail at 16x16: data.image_size=28 would keep it"
    assert of(tmp_path / "a.npz") == Survey("3 images, 28x28 grey -> 16x16 grey", (told,))


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, *((f"{i:03d}.png", "L", (16, 16)) for i in range(100)), ("x/odd.png", "L", (16, 19)))
    first, second = of(folder).warnings
    assert first == "1 of 101 images is not 16x16 as the rest: 'x/odd.png' is 16x19"
    assert second.startswith("1 of 101 images, such as 'x/odd.png', is not square")


def test_transparency_and_16_bits(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a.png", "RGBA", (16, 16)), ("b.png", "LA", (16, 16)), ("c.png", "I;16", (16, 16)))
    assert of(folder, channels=3).warnings == (
        "2 of 3 images, such as 'a.png', are stored with transparency, which is dropped: hidden colours show",
        "1 of 3 images, such as 'c.png', is of 16 bits, of which the upper 8 are kept",
    )


def test_a_sample_says_that_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "MAX_LOOKS", 3)
    folder = write(tmp_path, *((f"{i}.png", "RGB", (16, 16)) for i in range(7)))
    found = of(folder)
    assert found.line == "7 images (3 looked at), 16x16 colour -> 16x16 grey"
    assert found.warnings[0].startswith("all images looked at are in colour, which is lost")


# ---- classes --------------------------------------------------------------------------------------------


def test_classes_without_images(tmp_path: Path) -> None:
    folder = write(tmp_path, *((f"{name}/0.png", "L", (16, 16)) for name in "abc"))
    found = of(folder, classes=9)
    assert found.line == "3 images, 3 classes, 16x16 grey -> 16x16 grey"
    assert found.warnings == (
        "the model has 9 classes, the images show 3: without images it learns nothing of 3, 4, 5, …; set "
        "model.num_classes=3",
    )
    pairs = [["a/0.png", 0], ["b/0.png", 2], ["c/0.png", 2]]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    told = "the model has 3 classes, the images show 2: without images it learns nothing of 1"
    assert of(folder, classes=3).warnings == (told,)


def test_a_folder_of_other_formats_is_no_class(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a/0.png", "L", (16, 16)), ("b/0.gif", "L", (16, 16)))
    told = f"'{folder}/b' is not a class: it holds no images in .png, .jpg, .jpeg, .tif, .tiff, .webp, .bmp"
    assert of(folder, classes=1).warnings == (told,)
    assert of(folder).warnings == ()


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    folder = write(tmp_path, *((f"{name}/0.png", "L", (16, 16)) for name in "abc"))
    with pytest.raises(ConfigError, match=r"has labels up to 2, the model has 2 classes: set model\.num_classes=3"):
        of(folder, classes=2)
    (folder / "d").mkdir()
    assert of(folder).line == "3 images, 16x16 grey -> 16x16 grey"  # classes are of no interest
    with pytest.raises(DataError, match=r"the class folder '.*/d' is empty"):
        of(folder, classes=3)


# ---- latents --------------------------------------------------------------------------------------------


def test_latents(tmp_path: Path) -> None:
    save_shard(tmp_path, "moments", 0, np.ones((3, 8, 2, 2), np.float32))
    save_shard(tmp_path, "images", 0, np.zeros((3, 16, 16, 3), np.uint8))
    write_json(tmp_path / "index.json", FORMAT | {
        "image_size": 16, "shape": [4, 2, 2], "scale": [0.2] * 4, "bias": [0.0] * 4, "flipped": False,
        "vae": {"name": "x/y", "fingerprint": ""}, "shard_size": 3, "classes": ["a", "b"], "labels": [0, 1, 1],
        "names": ["a.png", "b.png", "c.png"],
    })  # fmt: skip
    patches = "model.patch_size=2"
    found = of(tmp_path, patches, channels=4, classes=2)
    assert found == Survey("3 images, 2 classes, 16x16 colour as 4x2x2 latents", ())
    assert of(tmp_path, patches, channels=4).line == "3 images, 16x16 colour as 4x2x2 latents"
    assert "learns nothing of 2; set model.num_classes=2" in of(tmp_path, patches, channels=4, classes=3).warnings[0]
