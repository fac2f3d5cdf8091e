"""PyTorch programs are opened on trust only, from the bytes that were hashed, and refused in a sentence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openings import on
from programs import Gaussian, Made, MakeBundle, export, listed
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from drun import trust
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError, NotTrusted


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on another machine, where nothing was exported."""
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "another machine"))


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
        "add --trust if you trust who made it, export it yourself, or use another artifact or backend\n"
    )
    checked = drun("check", made.bundle.path, "--all")
    assert checked.code == 0
    assert "pt2 pt2-fp32 skipped: " in " ".join(checked.out.split())
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
    check = trust.check
    monkeypatch.setattr(trust, "check", lambda *given: made.path.write_bytes(content) and check(*given))
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
