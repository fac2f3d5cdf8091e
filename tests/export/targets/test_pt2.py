"""What `dexport` writes as a torch.export program: the network, nothing of this machine, and trusted on it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dexport.deploy import deployable, deployable_decoder
from dexport.latents import ImageDecoder, find_decoder
from dexport.targets import Part, pt2
from drun import trust
from drun.backends.pt2 import Runtime, network_on
from drun.bundle.artifact import DECODER_TOLERANCES, TOLERANCES, Artifact, FileEntry, Tensor
from drun.bundle.card import Classes, Sampler, StateSpace
from drun.bundle.manifest import Manifest, Model
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Labels
from dtrain import published

Shape = tuple[int, int, int]


def part_of(
    network: nn.Module, io_: tuple[Tensor, ...], batch: tuple[int, int] = (1, 64), stem: str = "denoiser.fp32"
) -> Part:
    return Part(stem, network, network, "fp32", io_, batch, TOLERANCES["fp32"])


def io_of(shape: Shape, out_channels: int, has_labels: bool) -> tuple[Tensor, ...]:
    y = [Tensor("y", "int64", ("N",), "class")] if has_labels else []
    x, t = Tensor("x", "float32", ("N", *shape), "images"), Tensor("t", "float32", ("N",), "time")
    return x, t, *y, Tensor("out", "float32", ("N", out_channels, *shape[1:]), "noise")


def bundle_of(folder: Path, shape: Shape, artifact: Artifact, has_labels: bool, variance: str | None) -> Bundle:
    """Without a golden file, which a backend does not read."""
    checkpoint: Any = {"file": "a.pt", "sha256": "0" * 64, "weights": "ema", "step": 1, "settings": {}}
    manifest = Manifest(
        "tests", Model("a", {}, 1, checkpoint), {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000},
        "noise", {"kind": "index", "dtype": "float32"}, StateSpace("pixel", shape), Sampler("ddim"), FileEntry("", ""),
        (artifact,), Classes(10, 10) if has_labels else None, variance=variance,
    )  # fmt: skip
    return Bundle(folder, manifest)


def relative_l2(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@torch.no_grad()
def eager(network: nn.Module, x: np.ndarray, t: np.ndarray, y: Labels | None) -> np.ndarray:
    inputs = [torch.from_numpy(array) for array in (x, t, y) if array is not None]
    out: np.ndarray = network(*inputs).numpy()
    return out


@pytest.mark.parametrize(
    ("name", "shape", "out_channels", "has_labels"),
    [
        ("OneResUNet", (3, 16, 16), 3, False),
        pytest.param("AttentionUNet", (3, 16, 16), 3, False, marks=pytest.mark.slow),
        ("SiT", (4, 8, 8), 4, True), ("DiT", (4, 8, 8), 8, True),
    ],
)  # fmt: skip
def test_networks_are_met_in_both_arithmetics(
    build_small: Callable[..., nn.Module], tmp_path: Path, name: str, shape: Shape, out_channels: int, has_labels: bool
) -> None:
    """By the network as it was trained, not the one that is exported."""
    network = build_small(name)
    io_ = io_of(shape, out_channels, has_labels)
    artifact = pt2.export(part_of(deployable(network), io_), tmp_path)
    variance = "learned_range" if out_channels == 2 * shape[0] else None
    bundle = bundle_of(tmp_path, shape, artifact, has_labels, variance)
    rng = np.random.default_rng(0)
    assert Runtime.arithmetics(artifact)[:2] == ("fp32", "bf16")
    for arithmetic in ("fp32", "bf16"):
        backend = Runtime(bundle, artifact, arithmetic)
        for size in (1, 3, 64):
            x, t = rng.standard_normal((size, *shape), np.float32), rng.uniform(0, 999, size).astype(np.float32)
            y = np.arange(size) % 11 if has_labels else None
            got = backend.predict(*(array for array in (x, t, y) if array is not None))
            assert relative_l2(got, eager(network, x, t, y)) <= TOLERANCES[arithmetic].call
        backend.close()


@pytest.mark.slow
def test_a_decoder_is_exported_like_a_denoiser(tiny_vae: Path, sit_checkpoint: Path, tmp_path: Path) -> None:
    denoiser = published.load(sit_checkpoint, "ema", {"num_heads": "2"})
    decoder = find_decoder(denoiser, str(tiny_vae))
    assert isinstance(decoder, ImageDecoder)
    z = Tensor("z", "float32", ("N", 4, 8, 8), "latents")
    image = Tensor("image", "float32", ("N", *decoder.shape), "RGB")
    part = part_of(deployable_decoder(decoder.network), (z, image), (1, 8), "decoder.fp32")
    artifact = pt2.export(part, tmp_path)
    bundle = bundle_of(tmp_path, (4, 8, 8), pt2.export(fixed(), tmp_path), has_labels=False, variance=None)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = decoder.network(latents).numpy()
    for arithmetic in ("fp32", "bf16"):
        got = Runtime(bundle, artifact, arithmetic).predict(latents.numpy())
        assert relative_l2(got, expected) <= DECODER_TOLERANCES[arithmetic].call


@pytest.mark.parametrize(
    ("name", "shape", "out_channels", "has_labels"),
    [("OneResUNet", (3, 16, 16), 3, False), ("DiT", (4, 8, 8), 8, True)],
)
def test_a_program_moves_to_another_device(
    build_small: Callable[..., nn.Module], tmp_path: Path, name: str, shape: Shape, out_channels: int, has_labels: bool
) -> None:
    """With the constants that it makes on its way. `meta`, which computes shapes alone, stands for what is not here."""
    pt2.export(part_of(deployable(build_small(name)), io_of(shape, out_channels, has_labels)), tmp_path)
    network = network_on(torch.export.load(tmp_path / "denoiser.fp32.pt2"), "meta", is_compiled=False)
    x, t, y = torch.ones(5, *shape), torch.ones(5), torch.ones(5, dtype=torch.int64)
    out = network(*(tensor.to("meta") for tensor in ((x, t, y) if has_labels else (x, t))))
    assert (out.device.type, out.shape, out.dtype) == ("meta", (5, out_channels, *shape[1:]), torch.float32)


class Scaled(nn.Module):
    """The smallest denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * self.weight + t.reshape(-1, 1, 1, 1)


def fixed(batch: tuple[int, int] = (1, 64)) -> Part:
    return part_of(Scaled(), io_of((4, 8, 8), 4, has_labels=False), batch)


def test_the_artifact_says_what_it_is(tmp_path: Path) -> None:
    artifact = pt2.export(fixed(), tmp_path)
    content = (tmp_path / "denoiser.fp32.pt2").read_bytes()
    assert artifact.files == (FileEntry("denoiser.fp32.pt2", hashlib.sha256(content).hexdigest()),)
    assert (artifact.id, artifact.batch, artifact.target) == ("pt2-fp32", (1, 64), {"kind": "torch.export"})
    assert artifact.producers == {"torch": torch.__version__}
    assert (artifact.parity, artifact.tolerance) == (None, TOLERANCES["fp32"])


def test_it_is_trusted_here_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "here"))
    digest = pt2.export(fixed(), tmp_path).files[0].sha256
    assert trust.is_trusted(digest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["denoiser.fp32.pt2", "here"]
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "elsewhere"))
    assert not trust.is_trusted(digest)


@pytest.mark.parametrize("batch", [(1, 1), (1, 2), (2, 5), (7, 7)])
def test_the_batch_has_its_bound(tmp_path: Path, batch: tuple[int, int]) -> None:
    pt2.export(fixed(batch), tmp_path)
    network: Any = torch.export.load(tmp_path / "denoiser.fp32.pt2").module()
    for size in {*batch, sum(batch) // 2}:
        x, t = torch.ones(size, 4, 8, 8), torch.arange(size) * 1.0
        torch.testing.assert_close(network(x, t), Scaled()(x, t))
    with pytest.raises((RuntimeError, AssertionError)):
        network(torch.ones(batch[1] + 1, 4, 8, 8), torch.ones(batch[1] + 1))


def test_nothing_of_this_machine_is_in_the_file(build_small: Callable[..., nn.Module], tmp_path: Path) -> None:
    """No stack traces, no paths, no example inputs, no names of our modules; so two exports are equal byte for byte."""
    io_ = io_of((4, 8, 8), 4, has_labels=True)
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        artifact = pt2.export(part_of(deployable(build_small("SiT")), io_), tmp_path / name)
        contents.append((tmp_path / name / artifact.files[0].path).read_bytes())
    assert contents[0] == contents[1]
    root = Path(pt2.__file__).parents[3]
    words = (
        str(root),
        str(tmp_path),
        str(Path(torch.__file__).parent),
        "site-packages",
        ".py",
        "dtrain",
        "stack_trace",
    )
    with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    for name, record in records.items():
        for word in words if "/weights/weight_" not in name else ():
            assert word.encode() not in record, f"{word} in {name}"
    assert records["archive/data/sample_inputs/model.pt"] == b""
