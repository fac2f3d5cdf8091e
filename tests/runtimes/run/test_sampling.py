"""What is drawn: against an independent loop, however the samples are batched, guided, or given their noise."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openings import by, on, on_null
from runs import ANCESTRAL, Counted, draw, load, pngs, results

from drun.backends import null
from drun.bundle import reading as bundles
from drun.bundle.card import Card, Sampler, StateSpace
from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.ahead import AHEAD_SIZE
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer, walk
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError, NotFiniteError
from drun.run.noise_file import noise_digest
from drun.run.sampling import resolve_sampler
from drun.run.session import Session
from drun.settings import SamplingSettings

MakeBundle = Callable[..., Path]


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
        ({"cfg_channels": 4}, "--cfg-channels got 4, expected at most 3, or all"),
    ],
)
def test_settings_that_do_not_fit_are_found_before_anything_is_written(
    bundle: Bundle, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(bundle, tmp_path / "out", replace(ANCESTRAL, **change))
    assert not (tmp_path / "out").exists()


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


def test_threads_may_share_a_backend_and_a_sampling(bundle: Bundle) -> None:
    session = Session(bundle, on("ort", bundle))
    shared = session.sampling(ANCESTRAL)
    samplings = [shared, shared, session.sampling(ANCESTRAL), session.sampling(ANCESTRAL)]
    batches = [list(range(i, i + 1 + i % 3)) for i in range(16)]
    alone = [shared.draw(batch, batch=3) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: samplings[i % 4].draw(batches[i], batch=3), range(16)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_noise_that_is_made_ahead_is_the_noise_of_the_stream(make_bundle: MakeBundle) -> None:
    """Images so large that their noise is made ahead, against a walk that asks the stream itself."""
    shape = (3, 96, 96)
    bundle = bundles.read(make_bundle(data=StateSpace("pixel", shape), artifacts=()))
    opened, settings = on_null(bundle), SamplingSettings("ddpm", samplers.resolve("ddpm", {}), 5, 3)
    sampling = Session(bundle, opened).sampling(settings)
    noise = PhiloxNoise(3, [0, 1], shape)
    x = noise()
    assert x.size >= AHEAD_SIZE
    expected = walk(opened.call, sampling.table, x, None, Guidance(), noise)
    np.testing.assert_array_equal(sampling.draw([0, 1]), expected)


def test_an_observer_sees_the_samples_that_were_asked_for(bundle: Bundle) -> None:
    """Not those that fill the batch up."""
    shown = []
    session = Session(bundle, on_null(bundle))
    sampling = session.sampling(ANCESTRAL)
    final = sampling.draw([4, 2], Observer(rows=(-1, 4), show=lambda row, x: shown.append(x.copy())), batch=5)
    np.testing.assert_array_equal(shown[0], PhiloxNoise(3, [4, 2], (3, 8, 8))())
    np.testing.assert_array_equal(shown[1], final)
    np.testing.assert_array_equal(final, sampling.draw([4, 2]))


@pytest.mark.parametrize(
    ("space", "sampler", "options", "expected"),
    [
        ("pixel", None, {}, ("ddim", {"eta": 0.5, "clip_x0": True})),
        ("pixel", "ddim", {"eta": "0.25"}, ("ddim", {"eta": 0.25, "clip_x0": True})),
        ("pixel", "euler", {}, ("euler", {"clip_x0": False})),
        ("latent", "ddpm", {}, ("ddpm", {"clip_x0": False})),
        ("latent", "ddpm", {"clip_x0": "true"}, ("ddpm", {"clip_x0": True})),
    ],
)
def test_options_are_those_given_then_the_cards_then_the_samplers(
    space: str, sampler: str | None, options: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    """Latents have no range to be clipped to."""
    card = Card(DiscreteProcess("linear"), "noise", StateSpace(space, (3, 8, 8)), sampler=Sampler("ddim", {"eta": 0.5}))
    name, resolved = resolve_sampler(card, sampler, options)
    assert (name, resolved) == (expected[0], samplers.defaults(expected[0]) | expected[1])
