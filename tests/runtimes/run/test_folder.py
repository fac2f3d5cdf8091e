"""Runs into a folder: the same images however they are cut, stopped and continued."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openings import as_if, by, on, on_null
from PIL import Image

from drun.backends import null
from drun.bundle import artifact as artifacts
from drun.bundle import card as cards
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError, NotFiniteError, OutOfMemory, UserError
from drun.run import images
from drun.run.folder import run
from drun.run.noise_file import noise_digest
from drun.run.opening import Opened
from drun.run.output import Output
from drun.run.record import claim
from drun.run.session import Session
from drun.run.trajectory import FRAME_MS, LAST_FRAME_MS
from drun.settings import SamplingSettings

MakeBundle = Callable[..., Path]
ANCESTRAL = SamplingSettings("ddpm", samplers.resolve("ddpm", {}), num_steps=5, seed=3)


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


class Counted(null.Runtime):
    """The null backend, which notes its calls and stops at one of them if asked to."""

    def __init__(self, bundle: Bundle, stop_at: int | None = None) -> None:
        super().__init__(bundle)
        self.batches: list[int] = []
        self.stop_at = stop_at

    def predict(self, *inputs: Any) -> Any:
        self.batches.append(len(inputs[0]))
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        return super().predict(*inputs)


def draw(
    bundle: Bundle,
    folder: Path,
    settings: SamplingSettings = ANCESTRAL,
    opened: Opened | None = None,
    noise_file: Path | None = None,
    **output: Any,
) -> int:
    """Run 7 images in batches of 3, unless `output` says otherwise."""
    target = Output(**{"folder": folder, "num_images": 7, "batch": 3} | output)
    session = Session(bundle, opened or by(null.Runtime(bundle)))
    return run(session, session.sampling(settings, noise_file, target.num_images), target, silent)


def pngs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("0*.png"))}


def results(folder: Path) -> dict[str, bytes]:
    """Everything a finished run wrote except its record."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".png", ".npz")}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("0*.png")}


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def whole(bundle: Bundle, tmp_path: Path) -> dict[str, bytes]:
    """The results of one uninterrupted run of 7 images."""
    draw(bundle, tmp_path / "whole")
    return results(tmp_path / "whole")


# --- what a run writes


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


def test_the_images_are_those_of_an_independent_loop(
    make_bundle: MakeBundle, tmp_path: Path, ddim_trajectory: Callable[..., np.ndarray]
) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    settings = SamplingSettings("ddim", {"grid": "trailing"}, num_steps=5, seed=11)
    for name in ("ort", "null"):
        draw(bundle, tmp_path / name, settings, on(name, bundle), save_raw=True, batch=4)
        labels = np.arange(7)
        noise = PhiloxNoise(11, range(7), (3, 8, 8))().astype(np.float64)
        expected = ddim_trajectory(noise, [99, 79, 59, 39, 19], labels)
        raw = load(tmp_path / name / "raw.npz")
        np.testing.assert_allclose(raw["x"], expected, atol=1e-5)
        np.testing.assert_array_equal(raw["labels"], labels)
        levels = load(tmp_path / name / "samples.npz")["arr_0"].transpose(0, 3, 1, 2)
        assert np.abs(levels - (expected.clip(-1, 1) + 1) * 127.5).max() < 0.51


def test_labels_of_a_conditional_model(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    draw(bundle, tmp_path / "out", replace(ANCESTRAL, labels="7,2"))
    samples = load(tmp_path / "out" / "samples.npz")
    assert samples["arr_1"].dtype == np.int64
    assert samples["arr_1"].tolist() == [7, 2, 7, 2, 7, 2, 7]
    means = samples["arr_0"].mean(axis=(1, 2, 3))
    assert means[samples["arr_1"] == 7].min() > means[samples["arr_1"] == 2].max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_raw_states(bundle: Bundle, tmp_path: Path, dtype: str) -> None:
    draw(bundle, tmp_path, replace(ANCESTRAL, state_dtype=dtype), save_raw=True)
    raw = load(tmp_path / "raw.npz")
    assert list(raw) == ["x"]
    assert (raw["x"].shape, raw["x"].dtype) == ((7, 3, 8, 8), dtype)
    np.testing.assert_array_equal(images.to_uint8(raw["x"]), load(tmp_path / "samples.npz")["arr_0"])


def test_raw_states_asked_for_later(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path / "later")
    before = pngs(tmp_path / "later")
    assert draw(bundle, tmp_path / "later", save_raw=True) == 7
    assert pngs(tmp_path / "later") == before
    draw(bundle, tmp_path / "at once", save_raw=True)
    assert results(tmp_path / "later") == results(tmp_path / "at once")


def test_a_grid_shows_at_most_64_images(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path, num_images=70, batch=70)
    assert images.read_png(tmp_path / "grid.png").shape == (8 * 66 + 2, 8 * 66 + 2, 3)
    assert load(tmp_path / "samples.npz")["arr_0"].shape[0] == 70


def test_the_record_is_enough_to_repeat_the_run(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    settings = SamplingSettings("ddim", {"eta": 0.5}, 6, 4, "random", 2.5, (10, 60), 2, "float64")
    draw(bundle, tmp_path / "first", settings)
    record = json.loads((tmp_path / "first" / "run.json").read_text())
    assert set(record) == {
        "settings", "num_images", "batches", "bundle_sha256", "trained_on", "runs_on", "versions", "machine", "command",
    }  # fmt: skip
    assert record["bundle_sha256"] == bundle.sha256
    own = {key: value for key, value in record["settings"].items() if key in SamplingSettings.__dataclass_fields__}
    draw(bundle, tmp_path / "second", SamplingSettings(**own), num_images=record["num_images"])
    assert results(tmp_path / "second") == results(tmp_path / "first")


def test_the_record_says_what_the_model_learned_from(make_bundle: MakeBundle, tmp_path: Path) -> None:
    trained_on = manifests.TrainedOn("photos", 60_000, 8, 3, "f" * 64)
    draw(bundles.read(make_bundle(trained_on=trained_on)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["trained_on"] == asdict(trained_on)


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


# --- one image, however the work is cut


@pytest.mark.parametrize(
    "settings", [ANCESTRAL, SamplingSettings("dpmpp_2m", {}, 6), SamplingSettings("ddim", {"eta": 1.0}, 4, 9)]
)
@pytest.mark.parametrize("conditional", [False, True])
def test_an_image_does_not_depend_on_the_batch(
    make_bundle: MakeBundle, tmp_path: Path, settings: SamplingSettings, conditional: bool
) -> None:
    """To the bit, before rounding."""
    bundle = bundles.read(make_bundle(conditional=conditional))
    settings = replace(settings, cfg=2.0, labels="random") if conditional else settings
    states = []
    for batch in (1, 3, 7, 100):
        draw(bundle, tmp_path / str(batch), settings, batch=batch, save_raw=True)
        states.append(load(tmp_path / str(batch) / "raw.npz")["x"].tobytes())
    assert len(set(states)) == 1


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


# --- stop and go on


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed = 3, this run has 4"),
        ({"num_steps": 6}, "num_steps = 5, this run has 6"),
        ({"sampler": "ddim", "options": {}}, "sampler = ddpm, this run has ddim"),
        ({"options": {"clip_x0": False}}, "options = {.*'clip_x0': True.*}, this run has {'clip_x0': False}"),
        ({"state_dtype": "float64"}, "state_dtype = float32, this run has float64"),
        ({"noise": "abc"}, "noise = None, this run has abc"),
    ],
)
def test_other_settings_are_refused(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"holds images made with {message}: choose another --out, or delete the"):
        draw(bundle, tmp_path / "whole", replace(ANCESTRAL, **change))
    assert results(tmp_path / "whole") == whole


def test_another_checkpoint_is_refused(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    model = replace(bundle.manifest.model, checkpoint=bundle.manifest.model.checkpoint | {"sha256": "1" * 64})
    other = replace(bundle, manifest=replace(bundle.manifest, model=model))
    with pytest.raises(ConfigError, match=r"holds images made with checkpoint_sha256 = 0+, this run has 1+:"):
        draw(other, tmp_path / "whole")


def test_settings_that_json_spells_differently_are_the_same(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A tuple comes back as a list."""
    bundle = bundles.read(make_bundle(conditional=True))
    settings = replace(ANCESTRAL, cfg=2.0, interval=(10, 60.5))
    draw(bundle, tmp_path, settings)
    assert draw(bundle, tmp_path, settings) == 0


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_record_is_a_user_error(bundle: Bundle, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run.json': .+; delete the folder, or choose another --out"):
        draw(bundle, tmp_path)


# --- noise files


def philox_file(path: Path, seed: int, num_noises: int, count: int = 7) -> Path:
    """The numbers of a seed, as another implementation would hand them over."""
    source = PhiloxNoise(seed, range(count), (3, 8, 8))
    x = source()
    np.savez(path, x=x, z=np.stack([source() for _ in range(num_noises)]))
    return path


def test_given_noise_reproduces_the_images_of_its_seed(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = philox_file(tmp_path / "noise.npz", seed=3, num_noises=4)
    settings = replace(ANCESTRAL, seed=0, noise=noise_digest(path))
    draw(bundle, tmp_path / "given", settings, noise_file=path)
    assert results(tmp_path / "given") == whole


def test_given_noise_may_be_sharded(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = philox_file(tmp_path / "noise.npz", seed=3, num_noises=4)
    for shard in (1, 0):
        draw(bundle, tmp_path / "given", noise_file=path, shard=(shard, 2), batch=2)
    assert results(tmp_path / "given") == whole


def test_noise_for_another_number_of_images_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = philox_file(tmp_path / "noise.npz", seed=3, num_noises=4, count=6)
    with pytest.raises(ConfigError, match=r"array 'x' has shape \(6, 3, 8, 8\), expected \(7, 3, 8, 8\)"):
        draw(bundle, tmp_path / "given", noise_file=path)
    assert not (tmp_path / "given").exists()


def test_a_noise_file_that_is_not_there(tmp_path: Path) -> None:
    assert noise_digest(None) is None
    with pytest.raises(ConfigError, match=r"no such noise file: '.*noise.npz'"):
        noise_digest(tmp_path / "noise.npz")


# --- guidance


def states(bundle: Bundle, folder: Path, **settings: Any) -> np.ndarray:
    draw(bundle, folder, replace(ANCESTRAL, **settings), save_raw=True)
    return load(folder / "raw.npz")["x"]


def test_guided_channels_are_the_bundles_unless_chosen(make_bundle: MakeBundle, tmp_path: Path) -> None:
    every = bundles.read(make_bundle("every", conditional=True))
    first = bundles.read(make_bundle("first", conditional=True, guidance={"channels": 1}))
    of_every = states(every, tmp_path / "a", cfg=3.0)
    of_first = states(first, tmp_path / "b", cfg=3.0)
    unguided = states(every, tmp_path / "c")
    np.testing.assert_array_equal(of_first[:, :1], of_every[:, :1])
    np.testing.assert_array_equal(of_first[:, 1:], unguided[:, 1:])
    assert np.abs(of_every - unguided).mean() > 0.01
    np.testing.assert_array_equal(states(first, tmp_path / "d", cfg=3.0, cfg_channels=0), of_every)
    np.testing.assert_array_equal(states(every, tmp_path / "e", cfg=3.0, cfg_channels=1), of_first)


def test_guidance_of_a_gaussian_shifts_its_mean(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Both denoisers are the same linear function around their own class mean, so weight w samples the Gaussian
    around null + w (label - null). Deterministic and without clipping this is exact for the same noise."""
    bundle = bundles.read(make_bundle(conditional=True))
    settings = SamplingSettings("ddim", {"clip_x0": False}, 20)
    draw(bundle, tmp_path / "guided", replace(settings, labels="4", cfg=2.0), save_raw=True)
    draw(bundle, tmp_path / "plain", replace(settings, labels="4"), save_raw=True)
    draw(bundle, tmp_path / "other", replace(settings, labels="5"), save_raw=True)
    guided, plain, other = (load(tmp_path / name / "raw.npz")["x"] for name in ("guided", "plain", "other"))
    weight, label, null_label = 2.0, 4, 10
    of_one_label = other - plain
    np.testing.assert_allclose(guided - plain, (weight - 1) * (label - null_label) * of_one_label, atol=1e-5)


def test_network_calls_of_a_guided_run(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Times 99, 74, 50, 25, 0; guided from 25 to 74."""
    bundle = bundles.read(make_bundle(conditional=True))
    backend = Counted(bundle)
    draw(bundle, tmp_path / "a", replace(ANCESTRAL, cfg=2.0, interval=(25, 74)), by(backend), num_images=3)
    assert backend.batches == [3, 6, 6, 6, 3]
    backend = Counted(bundle)
    draw(bundle, tmp_path / "b", replace(ANCESTRAL, cfg=1.0), by(backend), num_images=3)
    assert backend.batches == [3] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cfg": 2.0}, "this model is unconditional: leave out --labels and --cfg"),
        ({"labels": "1"}, "this model is unconditional: leave out --labels and --cfg"),
        ({"num_steps": 0}, "cannot sample in 0 steps: this model has 100"),
        ({"num_steps": 101}, "cannot sample in 101 steps: this model has 100"),
        ({"sampler": "plms"}, "unknown sampler 'plms'"),
        ({"seed": 2**64}, "seed got 18446744073709551616, expected a whole number from 0"),
    ],
)
def test_settings_that_do_not_fit_are_found_before_anything_is_written(
    bundle: Bundle, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(bundle, tmp_path / "out", replace(ANCESTRAL, **change))
    assert not (tmp_path / "out").exists()


# --- trajectories


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


def test_an_animation_of_another_run_is_not_taken_for_ones_own(bundle: Bundle, tmp_path: Path) -> None:
    for name, settings in (("one", ANCESTRAL), ("two", replace(ANCESTRAL, seed=4))):
        draw(bundle, tmp_path / name, settings)
        draw(bundle, tmp_path / name, settings, trajectory=tmp_path / "way.webp")
    draw(bundle, tmp_path / "fresh", replace(ANCESTRAL, seed=4), trajectory=tmp_path / "fresh.webp")
    assert (tmp_path / "way.webp").read_bytes() == (tmp_path / "fresh.webp").read_bytes()


# --- what can go wrong


class Poisoned(null.Runtime):
    """A network that breaks at one time, for one image."""

    def __init__(self, bundle: Bundle, value: float) -> None:
        super().__init__(bundle)
        self.value = value

    def predict(self, *inputs: Any) -> Any:
        out = super().predict(*inputs)
        if inputs[1][0] == 50:
            out[-1, 0, 0, 0] = self.value
            out[-1, 0, 0, 1] = -self.value
        return out


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_images_that_are_not_finite(bundle: Bundle, tmp_path: Path, value: float) -> None:
    """Without a warning of numpy's on the way, and nothing is saved; 3e38 overflows within the step."""
    message = r"the images are not finite between steps 1 and 5 of 5 \(t = 99 to 0\): try --precision fp32"
    with pytest.raises(NotFiniteError, match=message):
        draw(bundle, tmp_path, replace(ANCESTRAL, options={"clip_x0": False}), by(Poisoned(bundle, value)))
    assert pngs(tmp_path) == {}


def test_a_folder_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    """Below a regular file, where root may not write either."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/out': Not a directory"):
        draw(bundle, tmp_path / "file" / "out")


def test_a_damaged_image_is_computed_again(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut short, with a flipped bit, larger, or in colours of another kind: nothing of it reaches samples.npz."""
    folder = tmp_path / "whole"
    flipped = bytearray(whole["000002.png"])
    flipped[len(flipped) // 2] ^= 1
    for i, content in ((1, whole["000001.png"][:40]), (2, bytes(flipped)), (3, b"")):
        (folder / f"{i:06d}.png").write_bytes(content)
    images.write_png(folder / "000004.png", np.zeros((9, 8, 3), np.uint8))
    images.write_png(folder / "000005.png", np.zeros((8, 8, 1), np.uint8))
    assert draw(bundle, folder) == 5
    assert results(folder) == whole
    assert f"damaged files in '{folder}' are computed again: 1, 2, 3, 4, 5" in capsys.readouterr().err


def test_a_damaged_state_is_computed_again(bundle: Bundle, tmp_path: Path) -> None:
    draw(bundle, tmp_path, save_raw=True)
    before = results(tmp_path)
    flipped = bytearray((tmp_path / "raw" / "000002.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "raw" / "000002.npz").write_bytes(flipped)
    np.savez(tmp_path / "raw" / "000003.npz", x=np.zeros((3, 8, 9), np.float32))
    np.savez(tmp_path / "raw" / "000004.npz", y=np.zeros((3, 8, 8), np.float32))
    np.savez(tmp_path / "raw" / "000005.npz", x=np.zeros((3, 8, 8)))
    np.savez(tmp_path / "raw" / "000006.npz", x=np.full((3, 8, 8), np.nan, np.float32))
    (tmp_path / "raw.npz").unlink()
    assert draw(bundle, tmp_path, save_raw=True) == 5
    assert results(tmp_path) == before


@pytest.mark.parametrize("name", ["grid.png", "samples.npz", "raw.npz"])
def test_files_of_somebody_else_are_not_overwritten(bundle: Bundle, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"holds '{name}', and no run.json says how it was made"):
        draw(bundle, tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_images_without_a_record_are_not_adopted(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    (tmp_path / "whole" / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"holds '.*', and no run.json says how it was made: choose another"):
        draw(bundle, tmp_path / "whole")
    assert results(tmp_path / "whole") == whole


OTHER = artifacts.FileEntry("other.onnx", "1" * 64)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("graph_sha256", lambda m: {"artifacts": (replace(m.artifacts[0], files=(OTHER,)),)}),
        ("weights", lambda m: {"model": replace(m.model, checkpoint=m.model.checkpoint | {"weights": "online"})}),
        ("process", lambda m: {"process": m.process | {"schedule": "cosine"}}),
        ("prediction", lambda m: {"prediction": "x0"}),
        ("guidance", lambda m: {"guidance": {"channels": 2}}),
    ],
)  # fmt: skip
def test_images_of_another_network_are_not_adopted(
    bundle: Bundle, tmp_path: Path, key: str, change: Callable[[manifests.Manifest], dict[str, Any]]
) -> None:
    """Though the bundle has the same name, and its checkpoint the same hash."""

    def claimed(bundle: Bundle) -> None:
        session = Session(bundle, as_if(null.Runtime(bundle), bundle))
        claim(session, session.sampling(ANCESTRAL), Output(tmp_path, 7, 3))

    claimed(bundle)
    claimed(bundle)
    other = replace(bundle, manifest=replace(bundle.manifest, **change(bundle.manifest)))
    with pytest.raises(ConfigError, match=rf"holds images made with {key} = "):
        claimed(other)


def test_another_batch_is_said(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(bundle, tmp_path, num_images=2)
    for _ in range(2):  # as long as they are there
        draw(bundle, tmp_path)
        assert "are computed 2 and 3 at a time: they agree within the tolerance" in capsys.readouterr().err


def test_a_batch_that_computes_nothing_is_not_recorded(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(bundle, tmp_path, num_images=2, batch=2)
    draw(bundle, tmp_path, num_images=2, batch=1)
    assert json.loads((tmp_path / "run.json").read_text())["batches"] == [2]
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_deleted_meanwhile(bundle: Bundle, tmp_path: Path) -> None:
    class Deleting(Counted):
        def predict(self, *inputs: Any) -> Any:
            if len(self.batches) == 7:
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


def test_threads_may_share_a_backend_and_a_sampling(bundle: Bundle) -> None:
    session = Session(bundle, on("ort", bundle))
    shared = session.sampling(ANCESTRAL)
    samplings = [shared, shared, session.sampling(ANCESTRAL), session.sampling(ANCESTRAL)]
    batches = [list(range(i, i + 1 + i % 3)) for i in range(16)]
    alone = [shared.draw(batch, batch=3) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: samplings[i % 4].draw(batches[i], batch=3), range(16)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# --- a full disk

SAMPLE = ["--backend", "null", "--sampler", "ddpm", "--steps", "5", "--seed", "3", "--batch", "3"]
Python = Callable[..., "subprocess.CompletedProcess[str]"]

#: No file may grow beyond a number of bytes. Python ignores the signal, so a longer write fails as on a full disk.
LIMITED_COMMAND = """
import resource, sys
from drun.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


def test_no_room_for_the_packed_samples(bundle: Bundle, tmp_path: Path, python: Python) -> None:
    """All images fit, but not the file of all."""
    folder = tmp_path / "out"
    arguments = [*SAMPLE, "--bundle", bundle.path, "--out", folder, "-n", 40]
    result = python("-c", LIMITED_COMMAND, 4000, *arguments)
    assert result.returncode == 1
    message = f"error: cannot write '{folder}/samples.npz': File too large; what was finished before is kept"
    assert result.stderr.splitlines()[-1] == message
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{i:06d}.png" for i in range(40)), "run.json"]
    before = identities(folder)
    assert draw(bundle, folder, num_images=40) == 0
    assert identities(folder) == before
    draw(bundle, tmp_path / "whole", num_images=40)
    assert results(folder) == results(tmp_path / "whole")


#: The limit falls when the second batch has been computed.
LIMITED_RUN = """
import resource, sys
from pathlib import Path
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.diffusion import samplers
from drun.backends import null
from drun.run.folder import run
from drun.run.opening import Candidate, Opened
from drun.run.output import Output
from drun.settings import SamplingSettings
from drun.run.session import Session

def report(what, done, total):
    if done == 30:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))

bundle, output = bundles.read(Path(sys.argv[1])), Output(Path(sys.argv[2]), 7, 3)
settings = SamplingSettings("ddpm", samplers.resolve("ddpm", {}), 5, 3)
session = Session(bundle, Opened(Candidate("null", None, "fp32"), null.Runtime(bundle)))
run(session, session.sampling(settings), output, report)
"""


def test_no_room_for_an_image(bundle: Bundle, tmp_path: Path, python: Python, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "out"
    result = python("-c", LIMITED_RUN, bundle.path, folder)
    message = f"UserError: cannot write '{folder}/000003.png': File too large; what was finished before is kept"
    assert message in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "000002.png", "run.json"]
    before = identities(folder)
    assert draw(bundle, folder) == 4
    assert {name: identities(folder)[name] for name in before} == before
    assert results(folder) == whole


#: A disk of 64 KiB of its own: fill it, look at what is there, give it room, go on.
FULL_DISK = """
disk=$1 seen=$2 done=$3; shift 3
mount -t tmpfs -o size=64k none "$disk" || exit 99
"$@"; code=$?
cp -r "$disk" "$seen"
mount -o remount,size=8m "$disk" || exit 99
"$@" && cp -r "$disk" "$done" && exit $code
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a disk of its own")
def test_a_disk_that_fills_up(bundle: Bundle, tmp_path: Path) -> None:
    disk, seen, done = (tmp_path / name for name in ("disk", "seen", "done"))
    disk.mkdir()
    command = [sys.executable, "-c", "from drun.cli import main; main()", *SAMPLE, "-n", "20", "--out", disk]
    command += ["--bundle", bundle.path]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", disk, seen, done, *command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if result.returncode == 99 or "unshare" in result.stderr:
        pytest.skip("may not mount a disk here")
    assert result.returncode == 1
    assert "No space left on device; what was finished before is kept" in result.stderr
    draw(bundle, tmp_path / "whole", num_images=20)
    whole, finished = results(tmp_path / "whole"), pngs(seen)
    assert 5 < len(finished) < 20
    assert finished == {name: whole[name] for name in finished}
    assert {path.name for path in seen.iterdir()} == {*finished, "run.json"}
    assert results(done) == whole


# --- memory

#: The high-water mark of this process alone; getrusage would count the parent's before exec.
MEASURED_COMMAND = """
from pathlib import Path
from drun.cli import main
try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.fixture
def peak_bytes(make_bundle: MakeBundle, tmp_path: Path, python: Python) -> Callable[..., int]:
    """`peak_bytes(*options)`: the memory of a run of 64 x 64 images on the null backend."""
    process = {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
    path = make_bundle(process=process, data=cards.StateSpace("pixel", (3, 64, 64)), artifacts=())

    def measure(*options: object) -> int:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        command = ["--backend", "null", "--bundle", path, "--out", tmp_path / "out", "--save-raw", *options]
        result = python("-c", MEASURED_COMMAND, *command)
        assert result.returncode == 0, result.stderr
        return int(result.stdout.splitlines()[-1]) * 1024

    return measure


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_does_not_grow_with_images(peak_bytes: Callable[..., int]) -> None:
    """Kept as floats, 384 more images would be 18 MiB; as bytes, 4.5."""
    few, many = (peak_bytes("--steps", 3, "-n", count) for count in (64, 448))
    assert many - few < 3 * 2**20


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_does_not_grow_with_steps(peak_bytes: Callable[..., int], tmp_path: Path) -> None:
    """With the animation, which shows 120 frames of either run. Kept, 480 more states would be 45 MiB."""
    few, many = (
        peak_bytes("--steps", count, "-n", 2, "--batch", 2, "--trajectory", tmp_path / "t.webp") for count in (120, 600)
    )
    assert many - few < 5 * 2**20
