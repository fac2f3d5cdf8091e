"""A walk on tensors gives what the walk on the host gives, and brings nothing to the host unasked."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openings import on
from programs import HAS_CUDA, Gaussian, Made, MakeBundle, export, gaussian

from drun.backends import Backend
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.loop import Observer
from drun.errors import BackendUnavailable, NotFiniteError
from drun.run.noise_file import FileNoise
from drun.run.opening import Opened
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings

# ---- the walk --------------------------------------------------------------------------------------------


class OnHost:
    """An opened backend that walks by the loop on the host."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def walk(self, *arguments: Any) -> Any:
        return Backend.walk(self.opened.backend, *arguments)


def draw(walker: Any, bundle: Bundle, settings: SamplingSettings, noise: Path | None = None) -> list[np.ndarray]:
    """The frames of samples 0 and 4 after the rows -1, 0 and 3, and their final states."""
    frames: dict[int, np.ndarray] = {}
    done: list[int] = []
    sampling = Sampling(bundle.manifest.card, walker, settings)
    if noise is not None:
        shape, num_noises = bundle.manifest.data.shape, sampling.table.num_noises
        sampling.noise_file = FileNoise(noise, None, 2, shape, num_noises)
    seen = Observer(done.append, (-1, 0, 3), lambda row, x: frames.update({row: x.copy()}))
    final = sampling.draw([0, 1], seen)
    assert done == list(range(1, len(sampling.table.rows) + 1))
    return [frames[-1], frames[0], frames[3], final]


def settings_of(sampler: str, options: dict[str, Any], **changes: Any) -> SamplingSettings:
    return SamplingSettings(sampler, samplers.resolve(sampler, options), 12, seed=3, **changes)


def check_walks_agree(opened: Opened, bundle: Bundle, settings: SamplingSettings, noise: Path | None = None) -> None:
    """The device's and the host's, frame by frame, and the device's without a single call of `predict`."""
    on_host = draw(OnHost(opened), bundle, settings, noise)
    opened.backend.predict = None  # type: ignore[assignment,method-assign]
    on_device = draw(opened, bundle, settings, noise)
    assert np.abs(on_host[-1] - on_host[0]).max() > 0.1
    for got, expected in zip(on_device, on_host, strict=True):
        assert got.dtype == expected.dtype == np.dtype(settings.state_dtype)
        assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "settings",
    [
        settings_of("ddim", {"eta": 0.5}),
        settings_of("ddpm", {"clip_x0": True}),
        settings_of("ddpm", {"clip_x0": True}, cfg=1.5, interval=(20, 70)),
        settings_of("dpmpp_2m", {}, cfg=2.0),
        settings_of("ddpm", {"clip_x0": True}, cfg=1.5, cfg_channels=2, state_dtype="float64"),
        settings_of("ddim", {"dynamic_threshold": 0.9}),
    ],
    ids=["ddim", "ddpm", "interval", "history", "float64", "dynamic"],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"] if HAS_CUDA else ["cpu"])
def test_the_walk_on_tensors_is_the_walk_on_the_host(pristine: Made, settings: SamplingSettings, device: str) -> None:
    with on("pt2", pristine.bundle, device=device) as opened:
        check_walks_agree(opened, pristine.bundle, settings)


def test_no_row_is_brought_to_the_host_unasked(pristine: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 rows two are shown; the third is the last, which is the result."""
    brought, to_host = [], torch.Tensor.cpu
    with on("pt2", pristine.bundle) as opened:
        for name in ("item", "tolist", "__float__"):
            monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name), brought))
        monkeypatch.setattr(torch.Tensor, "cpu", counted(to_host, brought))
        draw(opened, pristine.bundle, settings_of("ddpm", {"clip_x0": True}, cfg=1.5))
    # Whether the states are finite is asked after ten rows, and at the end.
    assert sorted(brought) == ["__float__"] * 2 + ["cpu"] * 3


@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
def test_the_host_waits_for_the_gpu_where_it_asks_it_something(pristine: Made) -> None:
    """Of 25 rows: three times whether the states are finite, and once for the result."""
    settings = SamplingSettings("ddpm", samplers.resolve("ddpm", {"clip_x0": True}), 25, cfg=1.5)
    with on("pt2", pristine.bundle, device="cuda") as opened:
        sampling = Sampling(pristine.bundle.manifest.card, opened, settings)
        sampling.draw([0, 1])
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                sampling.draw([0, 1])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 3 + 1


def counted(method: Any, calls: list[str]) -> Any:
    """The method, which says that it was called."""
    return lambda tensor, *args: (calls.append(method.__name__), method(tensor, *args))[1]


def test_a_learned_variance_stays_on_the_device(pristine_bundle: Path, tmp_path: Path) -> None:
    """Its channels lie behind those of the noise."""
    bundle = bundles.read(shutil.copytree(pristine_bundle, tmp_path / "tiny"))
    *inputs, out = bundle.manifest.artifacts[0].io
    channels, *sides = bundle.manifest.data.shape
    io = (*inputs, replace(out, shape=("N", 2 * channels, *sides)))
    learned = replace(bundle, manifest=replace(bundle.manifest, variance="learned_range", artifacts=()))
    made = export(learned, Gaussian(conditional=True, learned=True), io, (1, 4))
    settings = settings_of("ddpm", {"clip_x0": True, "variance": "learned_range"}, cfg=1.5)
    with on("pt2", made.bundle) as opened:
        check_walks_agree(opened, made.bundle, settings)


def test_noise_of_a_file_is_uploaded(pristine: Made, tmp_path: Path) -> None:
    settings, rng = settings_of("ddpm", {"clip_x0": True}), np.random.default_rng(0)
    x, z = rng.standard_normal((2, 3, 8, 8)), rng.standard_normal((11, 2, 3, 8, 8))
    np.savez(tmp_path / "noise.npz", x=x, z=z)
    with on("pt2", pristine.bundle) as opened:
        first = draw(opened, pristine.bundle, settings, tmp_path / "noise.npz")[0]
        np.testing.assert_array_equal(first, x.astype(np.float32))
        check_walks_agree(opened, pristine.bundle, settings, tmp_path / "noise.npz")


def test_what_is_not_finite_is_told_as_on_the_host(make_bundle: MakeBundle) -> None:
    made = gaussian(make_bundle(), gain=1e12)
    settings = settings_of("ddpm", {"clip_x0": False})
    with on("pt2", made.bundle) as opened:
        with pytest.raises(NotFiniteError, match=r"not finite between steps 1 and 10 of 12") as on_host:
            draw(OnHost(opened), made.bundle, settings)
        with pytest.raises(NotFiniteError) as on_device:
            draw(opened, made.bundle, settings)
    assert str(on_device.value) == str(on_host.value)


def test_what_a_program_does_not_take_is_cut_and_never_reaches_it(make_bundle: MakeBundle) -> None:
    """65 images of a program of 1 to 64, and 40 that guidance doubles."""
    made = gaussian(make_bundle(conditional=True))
    with on("pt2", made.bundle) as opened:
        backend: Any = opened.backend
        network, sizes = backend.network, []
        backend.network = lambda x, *others: (sizes.append(len(x)), network(x, *others))[1]
        x, y = np.ones((65, 3, 8, 8), np.float32), np.zeros(65, np.int64)
        assert opened.call(x, 5.0, y).shape == x.shape
        assert sizes == [64, 1]
        del sizes[:]
        settings = SamplingSettings("ddim", samplers.resolve("ddim", {}), 2, cfg=1.5)
        Sampling(made.bundle.manifest.card, opened, settings).draw(range(40))
        assert set(sizes) == {64, 16}
        with pytest.raises(BackendUnavailable, match=r"^PyTorch failed on a batch of 65: Expected input at .* 64"):
            opened.backend.predict(x, np.zeros(65, np.float32), y)


def test_a_static_program_is_padded(make_bundle: MakeBundle, exact_noise: Callable[..., np.ndarray]) -> None:
    made = gaussian(make_bundle(batch=(3, 3)), (3, 3))
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    with on("pt2", made.bundle) as opened:
        np.testing.assert_allclose(opened.call(x, 63.0, None), exact_noise(x, 63, None), rtol=1e-4, atol=1e-5)


# ---- settings of the process -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_walk", [False, True])
def test_threads_and_modes_are_set_while_it_computes(pristine: Made, is_walk: bool) -> None:
    before, seen = torch.get_num_threads(), []
    with on("pt2", pristine.bundle, "bf16", device="cpu", threads=before + 1) as opened:
        backend: Any = opened.backend
        network = backend.network

        def watched(*inputs: torch.Tensor) -> torch.Tensor:
            is_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), is_bf16))
            return network(*inputs)  # type: ignore[no-any-return]

        backend.network = watched
        if is_walk:
            draw(opened, pristine.bundle, settings_of("ddim", {}))
        else:
            opened.call(np.ones((2, 3, 8, 8), np.float32), 5.0, np.zeros(2, np.int64))
    assert set(seen) == {(before + 1, True, True)}
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
