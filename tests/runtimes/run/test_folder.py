"""Runs into a folder: the same images however they are cut, stopped and continued."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openings import by, on_null
from PIL import Image
from runs import ANCESTRAL, Counted, draw, identities, load, pngs, results, wait_for

from drun.backends import null
from drun.bundle.reading import Bundle
from drun.errors import OutOfMemory, UserError
from drun.run import images
from drun.run.folder import run
from drun.run.output import Output
from drun.run.session import Session
from drun.run.trajectory import FRAME_MS, LAST_FRAME_MS


def test_the_files_of_a_run(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    assert draw(bundle, folder) == 7
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{i:06d}.png" for i in range(7)), "grid.png", "run.json", "samples.npz",
    ]  # fmt: skip
    samples = load(folder / "samples.npz")
    assert list(samples) == ["arr_0"]
    assert (samples["arr_0"].shape, samples["arr_0"].dtype) == ((7, 8, 8, 3), np.uint8)
    for i, image in enumerate(samples["arr_0"]):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{i:06d}.png")), image)
    np.testing.assert_array_equal(images.read_png(folder / "grid.png"), images.grid(samples["arr_0"]))


def test_raw_states_asked_for_later(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path / "later")
    before = pngs(tmp_path / "later")
    assert draw(bundle, tmp_path / "later", save_raw=True) == 7
    assert pngs(tmp_path / "later") == before
    draw(bundle, tmp_path / "at once", save_raw=True)
    assert results(tmp_path / "later") == results(tmp_path / "at once")


def test_progress_counts_the_steps_of_each_image(bundle: Bundle, tmp_path: Path) -> None:
    """7 images in batches of 3, 3 and 1, 5 steps each."""
    output, seen = Output(tmp_path, 7, 3), []
    session = Session(bundle, on_null(bundle))
    assert (
        run(session, session.sampling(ANCESTRAL), output, lambda what, done, total: seen.append((what, done, total)))
        == 7
    )
    rows = (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35)
    assert seen == [("sampling, steps of all images", done, 35) for done in rows]


def test_an_image_does_not_depend_on_how_many_there_are(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    draw(bundle, tmp_path / "few", num_images=2)
    assert pngs(tmp_path / "few") == {name: whole[name] for name in ("000000.png", "000001.png")}


def test_images_differ_by_sample_and_seed(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    draw(bundle, tmp_path / "other", replace(ANCESTRAL, seed=4))
    both = [*pngs(tmp_path / "whole").values(), *pngs(tmp_path / "other").values()]
    assert len(set(both)) == 14


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_make_one_run(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes], order: tuple[int, ...]) -> None:
    folder, counts = tmp_path / "shards", {}
    for shard in order:
        assert not (folder / "samples.npz").exists()
        counts[shard] = draw(bundle, folder, shard=(shard, 3))
    assert counts == {0: 3, 1: 2, 2: 2}
    assert results(folder) == whole


def test_shards_with_raw_states(bundle: Bundle, tmp_path: Path) -> None:
    for shard in range(3):
        draw(bundle, tmp_path / "shards", shard=(shard, 3), save_raw=True)
    draw(bundle, tmp_path / "one", save_raw=True)
    assert results(tmp_path / "shards") == results(tmp_path / "one")


def test_more_shards_than_images(bundle: Bundle, tmp_path: Path) -> None:
    assert draw(bundle, tmp_path, num_images=2, shard=(5, 6)) == 0
    assert [draw(bundle, tmp_path, num_images=2, shard=(i, 6)) for i in range(2)] == [1, 1]
    assert (tmp_path / "samples.npz").is_file()


@pytest.mark.parametrize("save_raw", [False, True])
def test_resuming_after_an_interruption(bundle: Bundle, tmp_path: Path, save_raw: bool) -> None:
    """Stopped in the third step of the second batch: the first batch is there and is not touched again."""
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        draw(bundle, folder, opened=by(Counted(bundle, stop_at=8)), save_raw=save_raw)
    assert sorted(pngs(folder)) == ["000000.png", "000001.png", "000002.png"]
    assert not [path for path in folder.rglob("*") if path.suffix not in (".png", ".json", ".npz", "")]
    finished, backend = identities(folder), Counted(bundle)
    assert draw(bundle, folder, opened=by(backend), save_raw=save_raw) == 4
    assert backend.batches == [3] * 10  # the last batch is filled up
    assert {name: identity for name, identity in identities(folder).items() if name in finished} == finished
    draw(bundle, tmp_path / "whole", save_raw=save_raw)
    assert results(folder) == results(tmp_path / "whole")


def test_a_finished_run_computes_nothing(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    before, backend = identities(tmp_path / "whole"), Counted(bundle)
    assert draw(bundle, tmp_path / "whole", opened=by(backend)) == 0
    assert backend.batches == []
    assert identities(tmp_path / "whole") == before
    assert results(tmp_path / "whole") == whole


def test_only_the_images_that_are_missing_are_made(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    for i in (1, 5):
        (tmp_path / "whole" / f"{i:06d}.png").unlink()
    backend = Counted(bundle)
    assert draw(bundle, tmp_path / "whole", opened=by(backend)) == 2
    assert backend.batches == [3] * 5
    assert results(tmp_path / "whole") == whole


@pytest.mark.parametrize("save_raw", [False, True])
def test_more_images_later(bundle: Bundle, tmp_path: Path, save_raw: bool) -> None:
    draw(bundle, tmp_path / "grown", num_images=4, save_raw=save_raw)
    before = identities(tmp_path / "grown")
    assert draw(bundle, tmp_path / "grown", num_images=7, save_raw=save_raw) == 3
    assert {name: identities(tmp_path / "grown")[name] for name in before} == before
    draw(bundle, tmp_path / "whole", save_raw=save_raw)
    assert results(tmp_path / "grown") == results(tmp_path / "whole")


@pytest.mark.parametrize("save_raw", [False, True])
def test_fewer_images_later(bundle: Bundle, tmp_path: Path, save_raw: bool) -> None:
    draw(bundle, tmp_path, save_raw=save_raw)
    assert draw(bundle, tmp_path, num_images=2, save_raw=save_raw) == 0
    assert len(pngs(tmp_path)) == 7
    assert len(load(tmp_path / "samples.npz")["arr_0"]) == 2
    assert not save_raw or len(load(tmp_path / "raw.npz")["x"]) == 2


def frames(path: Path) -> tuple[list[np.ndarray], int]:
    """The pictures, and how long all of them are shown: the encoder joins frames that look the same."""
    pictures, duration_ms = [], 0
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
            duration_ms += image.info["duration"]
    return pictures, duration_ms


def test_a_trajectory_of_the_first_batch(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path / "out", trajectory=tmp_path / "t.webp")
    pictures, duration_ms = frames(tmp_path / "t.webp")
    assert duration_ms == 5 * FRAME_MS + LAST_FRAME_MS
    first_batch = images.grid(np.stack([images.read_png(images.image_path(tmp_path / "out", i)) for i in range(3)]))
    errors = [np.abs(picture - first_batch).mean() for picture in pictures]
    assert errors[-1] == min(errors)
    assert errors[-1] < 10 < 30 < errors[0]


def test_a_trajectory_asked_for_later_recomputes_the_first_batch_only(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    draw(bundle, tmp_path / "at once", trajectory=tmp_path / "once.webp")
    backend = Counted(bundle)
    draw(bundle, tmp_path / "whole", opened=by(backend), trajectory=tmp_path / "later.webp")
    assert backend.batches == [3] * 5
    assert results(tmp_path / "whole") == whole
    assert (tmp_path / "later.webp").read_bytes() == (tmp_path / "once.webp").read_bytes()


@pytest.mark.parametrize("stop_at", [3, 8])
def test_a_resumed_run_has_the_trajectory_of_the_whole_run(bundle: Bundle, tmp_path: Path, stop_at: int) -> None:
    """Stopped in the first or in the second batch."""
    draw(bundle, tmp_path / "at once", trajectory=tmp_path / "once.webp")
    with pytest.raises(KeyboardInterrupt):
        draw(bundle, tmp_path / "out", opened=by(Counted(bundle, stop_at)), trajectory=tmp_path / "t.webp")
    assert (tmp_path / "t.webp").exists() == (stop_at == 8)
    draw(bundle, tmp_path / "out", trajectory=tmp_path / "t.webp")
    assert (tmp_path / "t.webp").read_bytes() == (tmp_path / "once.webp").read_bytes()
    assert results(tmp_path / "out") == results(tmp_path / "at once")


def test_a_first_batch_with_a_gap_is_animated_whole(bundle: Bundle, tmp_path: Path) -> None:
    """The other images of the batch are there, but the animation shows all of it."""
    draw(bundle, tmp_path / "out", trajectory=tmp_path / "t.webp")
    animation, finished = (tmp_path / "t.webp").read_bytes(), results(tmp_path / "out")
    for i in (0, 5):
        (tmp_path / "out" / f"{i:06d}.png").unlink()
    backend = Counted(bundle)
    draw(bundle, tmp_path / "out", opened=by(backend), trajectory=tmp_path / "t.webp")
    assert backend.batches == [3] * 5  # both in one batch, filled up: the animation is there
    (tmp_path / "t.webp").unlink()
    draw(bundle, tmp_path / "out", opened=by(backend), trajectory=tmp_path / "t.webp")
    assert (tmp_path / "t.webp").read_bytes() == animation
    assert results(tmp_path / "out") == finished


def test_a_folder_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    """Below a regular file, where root may not write either."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/out': Not a directory"):
        draw(bundle, tmp_path / "file" / "out")


def test_a_folder_that_is_deleted_meanwhile(bundle: Bundle, tmp_path: Path) -> None:
    class Deleting(Counted):
        def predict(self, *inputs: Any) -> Any:
            if len(self.batches) == 7:
                wait_for(tmp_path / "out" / "000002.png")  # it is written while the second batch is drawn
                shutil.rmtree(tmp_path / "out")
            return super().predict(*inputs)

    with pytest.raises(UserError, match=r"^3 images vanished from '.*' while the run wrote them: run the same command"):
        draw(bundle, tmp_path / "out", opened=by(Deleting(bundle)))


def test_too_little_memory_says_what_to_lower(bundle: Bundle, tmp_path: Path) -> None:
    class Full(null.Runtime):
        def predict(self, *inputs: Any) -> Any:
            raise MemoryError

    with pytest.raises(OutOfMemory, match=r"^sampling ran out of memory: lower --batch, which is 3$"):
        draw(bundle, tmp_path, opened=by(Full(bundle)))
