"""`dbench quality` on real images, on copies, on noise, and on what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dbench.core import record
from dbench.suites import quality
from dbench.suites.quality import Settings, measure, measuring, pictures, rows
from drun.console import silent
from drun.errors import ConfigError, DataError
from drun.files import sha256
from dtrain.data.digits import digit_labels
from dtrain.data.pixels import load_images


def save(folder: Path, images: np.ndarray, **settings: Any) -> Path:
    np.savez(folder / "samples.npz", arr_0=images)
    (folder / "run.json").write_text(json.dumps({"settings": settings, "bundle_sha256": "b" * 64}))
    return folder


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_images("digits", 16, 1)


def noise(num: int, side: int = 16, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, (num, side, side, channels), np.uint8)


def value(result: Any, name: str) -> float:
    return float(result.row(name).value)


def test_copies_are_real_and_noise_is_noise(digits: np.ndarray, tmp_path: Path) -> None:
    result = measure(Settings(save(tmp_path, digits[::3]), "digits", splits=4), silent)
    far = measure(Settings(save(tmp_path, noise(600)), "digits", splits=4), silent)
    assert abs(value(result, rows.POSITION)) < 1
    assert value(far, rows.POSITION) == pytest.approx(100, abs=1)
    assert (value(result, rows.NEARER), value(far, rows.NEARER)) == (100, 0)
    floor = result.row(rows.REAL)
    assert floor.p10 is not None
    assert floor.p90 is not None
    assert 0 < floor.p10 <= floor.p90 < 0.2


def test_other_images_than_those_learned_from_are_far(digits: np.ndarray, tmp_path: Path) -> None:
    """Digits are no blots, and are not called real only because they are digits."""
    blots = np.sort(noise(300, 8, 1).reshape(300, 64), axis=1).reshape(300, 8, 8)
    np.save(tmp_path / "blots.npy", blots)
    result = measure(Settings(save(tmp_path, digits[:200]), str(tmp_path / "blots.npy"), splits=2), silent)
    assert value(result, rows.POSITION) > 50
    assert result.row(rows.SAMPLES).unit == "squared pixel values, 4x4"


def test_only_enough_images_make_a_key_number(digits: np.ndarray, tmp_path: Path) -> None:
    enough = measure(Settings(save(tmp_path, digits[:512]), "digits", splits=1), silent).row(rows.POSITION)
    assert enough.headline == "of the way from real digits to noise, by Fréchet distance on 8x8 pixels"
    assert measure(Settings(save(tmp_path, digits[:511]), "digits", splits=1), silent).row(rows.POSITION).headline == ""


def test_colour_counts(tmp_path: Path) -> None:
    """Red and green pictures have the same grey levels in the mean over their channels."""
    levels = noise(60, 8)[..., 0]
    red, green = np.zeros((2, 60, 8, 8, 3), np.uint8)
    red[..., 0], green[..., 1] = levels, levels
    np.save(tmp_path / "red.npy", red)
    settings = Settings(save(tmp_path, green), str(tmp_path / "red.npy"), splits=2)
    assert value(measure(settings, silent), rows.SAMPLES) > 0.3
    settings = Settings(save(tmp_path, red), str(tmp_path / "red.npy"), splits=2)
    assert value(measure(settings, silent), rows.SAMPLES) < 0.1


def test_the_command_compares_with_what_the_model_learned_from(model: Any, dbench: Callable[..., Any]) -> None:
    done = dbench("quality", model.samples, "--out", "results")
    assert done.code == 0
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(next(Path("results").glob("quality-samples-*.json")).read_text())
    again = dbench("quality", model.samples, "--out", "again", "--json", "--quiet")
    document = json.loads(again.out)
    assert all(Path(file).is_file() for file in document["files"])
    assert document["rows"] == last["rows"]
    subject, manifest = last["subject"], model.open().manifest
    assert subject["samples_sha256"] == sha256(model.samples / "samples.npz")
    assert subject["bundle_sha256"] == model.open().sha256
    assert subject["checkpoint_sha256"] == sha256(model.checkpoint)
    assert subject["reference"] == {
        "source": "digits", "num_images": 1797, "fingerprint": manifest.trained_on.fingerprint, "learned": True,
    }  # fmt: skip
    assert (subject["num_samples"], subject["run"]["num_steps"]) == (6, 3)
    assert str(model.samples.parent) not in done.out
    assert next(Path("results").glob("quality-samples-*.md")).read_text() in done.out
    need = "8x8 pixels need 512 samples (here are 6); draw samples with 'drun --bundle BUNDLE -n 512 --out DIR'"
    assert f"the distance is on 1x1 pixels only, which tells little: {need}" in done.err
    with Image.open(next(Path("results").glob("quality-samples-*-neighbours.png"))) as picture:
        assert picture.size == (7 * 66 + 2, 6 * 66 + 2)


def test_the_picture_shows_the_nearest_samples_beside_the_nearest_real_images(tmp_path: Path) -> None:
    levels = np.arange(0, 200, 10, dtype=np.uint8)
    np.save(tmp_path / "real.npy", np.broadcast_to(levels[:, None, None], (20, 64, 64)))
    drawn = np.full((3, 64, 64, 1), [[[[99]]], [[[255]]], [[[31]]]], np.uint8)
    settings = Settings(save(tmp_path, drawn), str(tmp_path / "real.npy"), splits=2)
    result = measure(settings, silent)
    assert result.row(rows.NEARER).details["nearest"][0] == [0, [10, 9, 11, 8, 12]]
    (picture,) = pictures(settings, result).values()
    centres = picture[34::66, 34::66, 0].tolist()
    assert centres == [
        [99, 255, 100, 90, 110, 80, 120], [31, 255, 30, 40, 20, 50, 10], [255, 255, 190, 180, 170, 160, 150],
    ]  # fmt: skip


def test_the_section_gives_a_verdict_on_enough_images_only(digits: np.ndarray, tmp_path: Path) -> None:
    far = quality.section(measure(Settings(save(tmp_path, noise(512)), "digits", splits=1), silent))
    assert "are judged: nothing says how they were drawn. By Fréchet distance on 8x8 pixels they are 9.3" in far
    assert "<h2>Compared with &#x27;digits&#x27;</h2>" in far
    assert "the 1,797 real images of &#x27;digits&#x27;" in far
    assert "\u00a0% of the way from real to noise, outside the goal" in far
    few = quality.section(measure(Settings(save(tmp_path, noise(200)), "digits", splits=1), silent))
    assert "On 5x5 pixels they lie " in few
    assert "from real to noise, which tells little: 8x8 pixels need 512 samples (here are 200)." in few
    none = quality.section(measure(Settings(save(tmp_path, digits[:50]), "digits", splits=1), silent))
    assert "between real and noise is unknown: 8x8 pixels need 512 samples (here are 50)." in none


def test_a_coarse_grid_is_marked_and_the_coarsest_gives_no_position(digits: np.ndarray, tmp_path: Path) -> None:
    named = (rows.SAMPLES, rows.REAL, rows.NOISE, rows.POSITION)
    for num, marks, is_known in ((512, 0, True), (511, 4, True), (128, 4, True), (127, 4, False)):
        result = measure(Settings(save(tmp_path, digits[:num]), "digits", splits=2), silent)
        assert sum(bool(record.doubt(result.row(name), result.machine)) for name in named) == marks
        assert (result.row(rows.POSITION).value is not None) == is_known
    assert "8x8 pixels need 512 samples (here are 127)" in record.to_markdown(result)


def test_a_position_around_zero_is_no_doubt(digits: np.ndarray, tmp_path: Path) -> None:
    """Half of the digits are as real as the other half."""
    order = np.random.default_rng(1).permutation(len(digits))
    np.save(tmp_path / "real.npy", digits[order[600:]])
    real = str(tmp_path / "real.npy")
    row = (result := measure(Settings(save(tmp_path, digits[order[:512]]), real), silent)).row(rows.POSITION)
    assert row.p10 is not None
    assert row.p90 is not None
    assert row.p10 < 0 < row.p90
    assert record.doubt(row, result.machine) == ""


def test_equal_runs_give_equal_numbers(model: Any) -> None:
    first, second = (measure(Settings(model.samples, splits=3), silent) for _ in range(2))
    assert first.rows == second.rows


def test_samples_of_one_class_are_warned_of(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"count": 10, "null_label": None, "names": []}
    chosen = digits[digit_labels() == 3][:100]
    result = measure(Settings(save(tmp_path, chosen, classes=classes, labels="3", seed=0), "digits", splits=2), silent)
    expected = 100 * (1 - (digit_labels() == 3).mean())
    assert value(result, rows.MIXTURE) == pytest.approx(expected)
    assert "of the 10 classes of 'digits' the samples show 1, in other shares" in capsys.readouterr().err
    result = measure(Settings(save(tmp_path, chosen, classes=classes, labels=None, seed=0), "digits", splits=2), silent)
    assert rows.MIXTURE not in {row.name for row in result.rows}
    assert "other shares" not in capsys.readouterr().err


def test_classes_of_one_name_are_one_class_whatever_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = noise(40, 8)
    for i, image in enumerate(images):
        path = tmp_path / "real" / ("coat" if i % 2 else "shirt") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    classes = {"count": 3, "null_label": 3, "names": ["bag", "coat", "shirt"]}
    drawn = save(tmp_path, images[:20], classes=classes, labels="shirt,coat", seed=0)
    result = measure(Settings(drawn, str(tmp_path / "real"), splits=2), silent)
    assert rows.MIXTURE not in {row.name for row in result.rows}
    assert "other shares" not in capsys.readouterr().err
    others = classes | {"names": ["bag", "hat", "shirt"]}
    drawn = save(tmp_path, images[:20], classes=others, labels="shirt,hat", seed=0)
    assert value(measure(Settings(drawn, str(tmp_path / "real"), splits=2), silent), rows.MIXTURE) == 50


def test_samples_without_classes_need_no_labels_of_the_real_images(digits: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", images=digits[:8, ..., 0], labels=np.array(["a"] * 8))
    result = measure(Settings(save(tmp_path, digits[:4]), str(tmp_path / "real.npz"), splits=2), silent)
    assert rows.MIXTURE not in {row.name for row in result.rows}


def test_a_small_reference_limits_the_sets(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "few.npy", digits[:40, ..., 0])
    result = measure(Settings(save(tmp_path, digits), str(tmp_path / "few.npy"), splits=2), silent)
    assert (result.settings["images_a_set"], result.settings["distance_on"]) == (20, "1x1 pixels")
    assert "8x8 pixels need 1,024 real images (here are 40); give at least 1,024 real" in capsys.readouterr().err
    np.save(tmp_path / "few.npy", digits[:3, ..., 0])
    with pytest.raises(DataError, match=r"'few\.npy' holds 3 images, .* expected at least 4"):
        measure(Settings(tmp_path, str(tmp_path / "few.npy")), silent)


def test_of_many_images_some_are_taken(digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MAX_IMAGES", 100)
    result = measure(Settings(save(tmp_path, digits[::2]), "digits", splits=2), silent)
    assert (result.settings["real_images"], result.settings["images_a_set"]) == (100, 50)
    assert result.subject["reference"]["num_images"] == 1797
    assert all(2 * sample in near for sample, near in result.row(rows.NEARER).details["nearest"][:1])


def test_samples_of_nobody_need_a_reference(tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", noise(8))
    with pytest.raises(ConfigError, match="does not say which images its model learned from"):
        measure(Settings(tmp_path / "samples.npy"), silent)
