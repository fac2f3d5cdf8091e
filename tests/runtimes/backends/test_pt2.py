"""PyTorch programs: opened on trust only, from the bytes that were hashed, and walked as tensors like on the host."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openings import on
from torch import nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from dexport.targets import Part
from dexport.targets import pt2 as target
from drun import backends, cache, trust
from drun.backends import Backend, RuntimeOptions, pt2
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES, FileEntry, Tensor
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion import samplers
from drun.diffusion.loop import Observer
from drun.errors import BackendUnavailable, BundleError, ConfigError, NotFiniteError, NotTrusted
from drun.run import parity
from drun.run.noise_file import FileNoise
from drun.run.opening import Opened, choose, open_candidate
from drun.run.sampling import Sampling, SamplingSettings

MakeBundle = Callable[..., Path]
#: drun and what is installed, for other processes
INSTALLED = [Path(np.__file__).parents[1], Path(backends.__file__).parents[2]]
HAS_CUDA = torch.cuda.is_available()
NUM_TIMESTEPS, STD, CLASS_STEP = 100, 0.5, 0.1


class Gaussian(nn.Module):
    """The network of the tests' bundles, E[eps | x_t] of Gaussian images, times `gain`.

    With a learned variance, its half is the noise again.
    """

    def __init__(self, conditional: bool, learned: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        scale = 1000 / NUM_TIMESTEPS
        abar = np.cumprod(1 - np.linspace(1e-4 * scale, 0.02 * scale, NUM_TIMESTEPS))
        slopes = gain * np.sqrt(1 - abar) / (abar * STD**2 + 1 - abar)
        self.register_buffer("slopes", torch.from_numpy(slopes).float())
        self.register_buffer("alphas", torch.from_numpy(np.sqrt(abar)).float())
        self.conditional, self.learned = conditional, learned

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        index = t.long()
        if y is not None:
            x = x - (y.float() * CLASS_STEP * self.alphas[index]).reshape(-1, 1, 1, 1)
        out = x * self.slopes[index].reshape(-1, 1, 1, 1)
        return torch.cat((out, torch.tanh(out)), dim=1) if self.learned else out


@dataclass(frozen=True)
class Made:
    """How a bundle with a program was made, for messages of the tests that change it."""

    bundle: Bundle
    path: Path  # of the program


def export(bundle: Bundle, network: nn.Module, io: tuple[Tensor, ...], batch: tuple[int, int]) -> Made:
    """Add a program to a bundle as `dexport` does, and read it back."""
    values = {"stem": "denoiser.fp32", "network": network.eval(), "precision": "fp32", "io": io, "batch": batch}
    fields = Part.__dataclass_fields__
    part = Part(**{key: value for key, value in values.items() if key in fields}, tolerance=TOLERANCES["fp32"])
    artifact = target.export(part, bundle.path)
    return Made(listed(bundle, artifact), bundle.path / artifact.files[0].path)


def listed(bundle: Bundle, artifact: Any) -> Bundle:
    """The bundle read back after its manifest lists this artifact in place of one of the same identity."""
    others = tuple(one for one in bundle.manifest.artifacts if one.id != artifact.id)
    manifest = replace(bundle.manifest, artifacts=(*others, artifact))
    (bundle.path / "manifest.json").write_text(manifest.to_json())
    return bundles.read(bundle.path)


def gaussian(folder: Path, batch: tuple[int, int] = (1, 64), gain: float = 1.0) -> Made:
    """A program in the bundle of `make_bundle`, which says whether there are classes and a learned variance."""
    bundle = bundles.read(folder)
    manifest = bundle.manifest
    network = Gaussian(manifest.classes is not None, manifest.variance is not None, gain)
    return export(bundle, network, manifest.artifacts[0].io, batch)


@pytest.fixture(scope="module")
def pristine(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A conditional bundle with a program of batches of 1 to 64, which tests do not change."""
    return gaussian(shutil.copytree(pristine_bundle, tmp_path_factory.mktemp("pt2") / "tiny"))


@pytest.fixture
def made(pristine: Made, tmp_path: Path) -> Made:
    """A copy to change."""
    bundle = bundles.read(shutil.copytree(pristine.bundle.path, tmp_path / "bundles" / "tiny"))
    return Made(bundle, bundle.path / pristine.path.name)


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on another machine, where nothing was exported."""
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "another machine"))


# ---- what it computes ------------------------------------------------------------------------------------


def test_it_is_found_without_importing_torch(python: Callable[..., Any]) -> None:
    code = "import sys; from drun.backends import pt2; print(pt2.Runtime.probe()); assert 'torch' not in sys.modules"
    done = python("-c", code, path=INSTALLED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Probe(available=True, detail='torch {torch.__version__}'")


def test_words_for_it_are_answered_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown backend 'pytorch': use --backend pt2, .*'dexport\[pt2\]'"):
        backends.load("pytorch")


@pytest.mark.parametrize(
    ("device", "arithmetic"),
    [("cpu", "fp32"), ("cpu", "bf16"), *(("cuda", name) for name in ("fp32", "bf16", "tf32") if HAS_CUDA)],
)
def test_the_golden_file_is_met(pristine: Made, device: str, arithmetic: str) -> None:
    with on("pt2", pristine.bundle, arithmetic, device=device) as opened:
        results = parity.check(pristine.bundle, opened, silent)
        where = f"PyTorch on {device.upper()}"
        assert opened.describe() == (where if arithmetic == "fp32" else f"{where} in {arithmetic}")
    assert len(results) == 4
    assert all(result.passed for result in results), results


def test_a_call_gives_float32_and_leaves_its_inputs(pristine: Made, exact_noise: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    x, t, y = rng.standard_normal((3, 3, 8, 8), np.float32), np.full(3, 63, np.float32), np.array([1, 2, 10])
    with on("pt2", pristine.bundle) as opened:
        before = x.copy()
        out = opened.backend.predict(x, t, y)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(out, exact_noise(x.astype(np.float64), 63, y), rtol=1e-5, atol=1e-6)


def test_threads_may_share_it(pristine: Made) -> None:
    rng = np.random.default_rng(0)
    inputs = [(rng.standard_normal((n, 3, 8, 8), np.float32), float(9 * n), np.arange(n)) for n in range(1, 9)] * 5
    with on("pt2", pristine.bundle) as opened:
        alone = [opened.call(*one).copy() for one in inputs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda one: opened.call(*one).copy(), inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


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


@pytest.mark.skipif(HAS_CUDA or torch.backends.mps.is_available(), reason="it has the device")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here(pristine: Made, device: str) -> None:
    with pytest.raises(BackendUnavailable, match=rf"^--device got {device}, PyTorch .* has here: cpu$"):
        on("pt2", pristine.bundle, device=device)


def test_an_arithmetic_that_it_does_not_have(pristine: Made) -> None:
    with pytest.raises(ConfigError, match=r"^--precision got int8, pt2 can compute in fp32, bf16"):
        choose(pristine.bundle, "pt2", "int8")
    tf32 = replace(choose(pristine.bundle, "pt2"), arithmetic="tf32")
    with pytest.raises(ConfigError, match=r"^--precision got tf32, cpu has none: use fp32, or --device cuda$"):
        open_candidate(pristine.bundle, tf32, RuntimeOptions(device="cpu"))


def test_it_opens_no_torch_while_another_backend_computes(made: Made, python: Callable[..., Any]) -> None:
    code = (
        "import sys, drun\n"
        f"bundle = drun.load({str(made.bundle.path)!r})\n"
        "assert {artifact.format for artifact in bundle.manifest.artifacts} == {'onnx', 'pt2'}\n"
        "with bundle.session() as session:\n"
        "    session.sample(1, steps=2)\n"
        "    assert session.opened.name == 'ort'\n"
        "assert 'torch' not in sys.modules"
    )
    done = python("-c", code, path=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_there_is_no_torch(made: Made, python: Callable[..., Any], bare: Path) -> None:
    words = ["check", str(made.bundle.path), "--backend", "pt2"]
    main = f"import sys; sys.argv[1:] = {words}; from drun.cli import main; main()"
    done = python("-c", main, path=[bare, INSTALLED[1]])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, "error: backend 'pt2' is not available: torch is not installed; install it with: pip install 'dexport[pt2]'",
    )  # fmt: skip


def test_a_torch_that_does_not_load(made: Made, python: Callable[..., Any], bare: Path, tmp_path: Path) -> None:
    """As where a shared library is missing."""
    (tmp_path / "stub" / "torch").mkdir(parents=True)
    (tmp_path / "stub" / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so: no such file')")
    words = ["--bundle", str(made.bundle.path), "--backend", "pt2", "--steps", "2"]
    main = f"import sys; sys.argv[1:] = {words}; from drun.cli import main; main()"
    done = python("-c", main, path=[tmp_path / "stub", bare, INSTALLED[1]])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, "error: torch is installed but does not load (libcudart.so: no such file); "
        "install it with: pip install 'dexport[pt2]'",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile's own
def test_compiled_it_computes_the_same(
    pristine: Made, exact_noise: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with on("pt2", pristine.bundle, device="cpu", compile=True) as opened:
        x, y = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32), np.array([1, 10])
        np.testing.assert_allclose(opened.call(x, 63.0, y), exact_noise(x, 63, y), rtol=1e-5, atol=1e-6)
        assert opened.describe() == "compiled PyTorch on CPU"
    assert list((Path(os.environ["DEXPORT_CACHE"]) / pt2.COMPILED).rglob("*.so"))  # of this user alone
    entry = next(entry for entry in cache.entries() if entry.what == "what torch.compile makes")
    assert entry.num_bytes > 10_000


# ---- trust -----------------------------------------------------------------------------------------------


class Payload:
    """Code in a file: unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def hostile(path: Path, marker: Path) -> bytes:
    """The program at `path`, with a pickle in place of its first weight, which its own index calls for."""
    reader, out = PT2ArchiveReader(str(path)), path.with_name("hostile.pt2")
    config, weight = "data/weights/model_weights_config.json", "data/weights/weight_0"
    torch.save(Payload(marker), path.with_name("payload"))
    replaced = {
        config: reader.read_bytes(config).replace(b'"use_pickle": false', b'"use_pickle": true'),
        weight: path.with_name("payload").read_bytes(),
    }
    with PT2ArchiveWriter(str(out)) as writer:
        for name in reader.get_file_names():
            if not name.startswith((".data/", "byteorder")):
                writer.write_bytes(name, replaced.get(name, reader.read_bytes(name)))
    content = out.read_bytes()
    out.unlink()
    path.with_name("payload").unlink()
    return content


@pytest.fixture
def attacked(made: Made, tmp_path: Path) -> tuple[Made, Path]:
    """A bundle of a stranger, whose manifest is right about its hostile program; and what that makes when it runs."""
    marker = tmp_path / "payload ran"
    made.path.write_bytes(hostile(made.path, marker))
    artifact = next(one for one in made.bundle.manifest.artifacts if one.format == "pt2")
    entry = FileEntry(made.path.name, hashlib.sha256(made.path.read_bytes()).hexdigest())
    return Made(listed(made.bundle, replace(artifact, files=(entry,))), made.path), marker


def test_a_program_of_strangers_is_not_opened(attacked: tuple[Made, Path]) -> None:
    made, marker = attacked
    with pytest.raises(NotTrusted, match=r"denoiser.fp32.pt2' can execute code .* was not exported on this machine"):
        on("pt2", made.bundle)
    assert not marker.exists()


def test_what_trust_means(attacked: tuple[Made, Path]) -> None:
    """Why there is such an option at all: the same file, trusted, runs its payload."""
    made, marker = attacked
    with pytest.raises(BackendUnavailable, match=r"^PyTorch .* cannot open '.*denoiser.fp32.pt2': "):
        on("pt2", made.bundle, trust=True)
    assert marker.is_dir()


def test_commands_refuse_it_in_a_sentence(attacked: tuple[Made, Path], drun: Callable[..., Any]) -> None:
    made, marker = attacked
    unproven = "warning: pt2-fp32 of 'tiny' was not proven where it was made: drun check proves it here\n"
    drawn = drun("--bundle", made.bundle.path, "--backend", "pt2", "--steps", 2, "-n", 1)
    assert (drawn.code, drawn.out) == (1, "")
    assert drawn.err.removeprefix(unproven) == (
        f"error: '{made.path}' can execute code when it is opened, and was not exported on this machine by you: "
        "add --trust if you trust who made it, export it yourself, or use another backend\n"
    )
    checked = drun("check", made.bundle.path, "--all")
    assert checked.code == 0
    assert "pt2 pt2-fp32          skipped: " in checked.out
    assert not marker.exists()


@pytest.mark.usefixtures("strange")
def test_trust_may_be_given(made: Made, drun: Callable[..., Any]) -> None:
    with pytest.raises(NotTrusted):
        on("pt2", made.bundle)
    assert drun("--bundle", made.bundle.path, "--backend", "pt2", "--steps", 2, "-n", 1, "--trust").code == 0
    assert drun("check", made.bundle.path, "--backend", "pt2", "--trust").code == 0
    assert not trust.is_trusted(made.bundle.manifest.artifacts[-1].files[0].sha256)  # it is not remembered


def test_a_file_that_was_swapped_after_it_was_trusted_is_not_opened(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "payload ran"
    content = hostile(made.path, marker)
    monkeypatch.setattr(pt2, "is_trusted", lambda digest: made.path.write_bytes(content) and trust.is_trusted(digest))
    with pytest.raises(BundleError, match=r"denoiser.fp32.pt2' is damaged: sha256 got"):
        on("pt2", made.bundle)
    assert not marker.exists()


def test_a_file_that_is_swapped_after_it_was_hashed_does_not_matter(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "payload ran"
    content, read = hostile(made.path, marker), Bundle.content

    def swapped(bundle: Bundle, entry: FileEntry) -> bytes:
        hashed = read(bundle, entry)
        made.path.write_bytes(content)
        return hashed

    monkeypatch.setattr(Bundle, "content", swapped)
    with on("pt2", made.bundle) as opened:
        assert made.path.read_bytes() == content
        assert np.isfinite(opened.call(np.ones((2, 3, 8, 8), np.float32), 5.0, np.zeros(2, np.int64))).all()
    assert not marker.exists()


# ---- files that are no such programs ---------------------------------------------------------------------


def test_a_damaged_file_is_not_opened(made: Made) -> None:
    with made.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"is damaged: sha256 got"):
        on("pt2", made.bundle)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_program(made: Made, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Its sha256 is right, and it is trusted, so only PyTorch can tell."""
    made.path.write_bytes(content)
    artifact = next(one for one in made.bundle.manifest.artifacts if one.format == "pt2")
    bundle = listed(
        made.bundle, replace(artifact, files=(FileEntry(made.path.name, hashlib.sha256(content).hexdigest()),))
    )
    with pytest.raises(BackendUnavailable, match=r"^PyTorch .* cannot open '.*denoiser.fp32.pt2': ."):
        on("pt2", bundle, trust=True)
    assert capfd.readouterr() == ("", "")


class Doubled(Gaussian):
    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, t, y).double()


class Twins(Gaussian):
    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return super().forward(x, t, y), t + 1


class Answering(Gaussian):
    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return 3, super().forward(x, t, y)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Answering, ""),
        (Doubled, "'out' got float64 .*, expected float32"),
        (Twins, "'another 0' got float32 .*, expected nothing"),
    ],
)
def test_a_program_of_another_network_is_refused(make_bundle: MakeBundle, kind: type[Gaussian], message: str) -> None:
    bundle = bundles.read(make_bundle())
    made = export(bundle, kind(conditional=False), bundle.manifest.artifacts[0].io, (1, 8))
    with pytest.raises(BundleError, match=rf"denoiser.fp32.pt2' is not the manifest's network: .*{message}"):
        on("pt2", made.bundle)
