"""What stays in a bundle beside a new artifact, and what goes with an old one."""

import hashlib
from dataclasses import replace

import pytest

from dexport.writer.pairs import ArtifactPair, merged, pairs_of, with_pairs
from drun.bundle.artifact import Artifact, FileEntry, Tensor, Tolerance
from drun.bundle.card import Sampler, StateSpace
from drun.bundle.manifest import CheckpointEntry, Manifest, Model

SHAPE = (3, 64, 64)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def artifact(name: str, content: str, derived_from: str | None = None, io: tuple[Tensor, ...] = ()) -> Artifact:
    files = (FileEntry(f"{name}.bin", digest(content)),)
    source = derived_from and digest(derived_from)
    return Artifact(name, "fp32", io, files, (1, 8), {}, {}, Tolerance(1e-6, 1e-6), derived_from=source)


ONNX = ArtifactPair(artifact("onnx", "graph"), artifact("onnx", "decoder"))
IR = ArtifactPair(artifact("ir", "ir", "graph"), artifact("ir", "ir decoder", "decoder"))
PLAN = ArtifactPair(artifact("plan", "plan", "ir"))
PT2 = ArtifactPair(artifact("pt2", "program"))
HELD = [ONNX, IR, PLAN, PT2]


def test_something_new_comes_last() -> None:
    new = ArtifactPair(artifact("new", "new"))
    assert merged(HELD, new) == ([*HELD, new], [])


def test_something_made_again_keeps_its_place() -> None:
    again = replace(PT2, denoiser=artifact("pt2", "another program"))
    assert merged([PT2, ONNX], again) == ([again, ONNX], [])


def test_what_was_derived_goes_with_its_source_and_so_does_what_was_derived_of_that() -> None:
    other = replace(ONNX, denoiser=artifact("onnx", "another graph"))
    assert merged(HELD, other) == ([other, PT2], [IR, PLAN])


def test_a_denoiser_goes_with_its_decoder() -> None:
    other = replace(ONNX, decoder=artifact("onnx", "another decoder"))
    assert merged(HELD, other) == ([other, PT2], [IR, PLAN])


def test_a_decoder_that_was_not_made_again_stays() -> None:
    again = ArtifactPair(artifact("onnx", "graph"))
    assert merged(HELD, again) == (HELD, [])


@pytest.mark.parametrize("pairs", [[ONNX, IR], [PT2], [ONNX, PT2]])
def test_a_manifest_holds_pairs(pairs: list[ArtifactPair]) -> None:
    image, time = Tensor("x", "float32", ("N", 4, 8, 8), ""), Tensor("t", "float32", ("N",), "")
    denoiser = (image, time, replace(image, name="out"))
    decoder = (replace(image, name="z"), Tensor("image", "float32", ("N", *SHAPE), ""))
    with_io = [
        ArtifactPair(replace(pair.denoiser, io=denoiser), pair.decoder and replace(pair.decoder, io=decoder))
        for pair in pairs
    ]
    checkpoint = CheckpointEntry(file="a.pt", sha256="0" * 64, weights="ema", step=1, settings={})
    bare = Manifest(
        "tests", Model("net", {}, 1, checkpoint), {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000},
        "noise", {"kind": "index", "dtype": "float32"}, StateSpace.of((4, 8, 8)), Sampler("ddpm"), FileEntry("g", ""),
    )  # fmt: skip
    manifest = with_pairs(bare, with_io, SHAPE)
    assert pairs_of(manifest) == with_io
    assert (manifest.decoder is None) is (pairs == [PT2])
