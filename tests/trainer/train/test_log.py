import json
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dtrain.train.log import Log


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_scalars_are_readable_as_json_lines_and_by_tensorboard(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.write(10, loss=0.5, images_per_s=100.0)
        log.write(20, loss=0.25, images_per_s=200.0)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"step": 20, "loss": 0.25, "images_per_s": 200.0}
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]


def previews(folder: Path) -> dict[int, np.ndarray]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    found = {event.step: event.encoded_image_string for event in events.Images("preview")}
    return {step: np.asarray(Image.open(BytesIO(content))) for step, content in found.items()}


def test_pictures_are_shown_by_tensorboard(tmp_path: Path) -> None:
    grey, colour = (np.random.default_rng(0).integers(0, 256, (9, 12, c), dtype=np.uint8) for c in (1, 3))
    with Log(tmp_path) as log:
        log.picture(10, grey)
        log.picture(20, colour)
    shown = previews(tmp_path)
    np.testing.assert_array_equal(shown[10], grey.repeat(3, axis=2))
    np.testing.assert_array_equal(shown[20], colour)


def test_a_resumed_run_draws_later_pictures_anew(tmp_path: Path) -> None:
    """TensorBoard drops them by the event that says where the run was resumed."""
    picture = np.zeros((8, 8, 1), np.uint8)
    with Log(tmp_path) as log:
        for step in (10, 20, 30):
            log.picture(step, picture)
    with Log(tmp_path, start_step=20) as log:
        log.picture(40, picture)
    assert list(previews(tmp_path)) == [10, 20, 40]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, loss=1.0)
    with Log(tmp_path, start_step=20) as log:
        log.write(40, loss=1.0)
    assert steps(tmp_path) == [10, 20, 40]


def test_a_line_cut_short_by_a_killed_run_is_dropped(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.write(10, loss=1.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')
    with Log(tmp_path, start_step=20) as log:
        log.write(30, loss=1.0)
    assert steps(tmp_path) == [10, 30]


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        with Log(tmp_path) as log:
            log.write(1, loss=1.0)
    assert steps(tmp_path) == [1]
