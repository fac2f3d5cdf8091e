import json
from pathlib import Path

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
