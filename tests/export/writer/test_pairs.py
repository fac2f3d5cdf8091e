"""What stays in a bundle beside a new artifact, and what goes with an old one."""

import hashlib
from dataclasses import replace

import pytest

from dexport.writer.pairs import ArtifactPair, joined, merged, pairs_of, shares_decoder, with_pairs
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


#: The same denoiser as ONNX, in two graphs; it shares the decoder.
SPLIT = ArtifactPair(replace(artifact("onnx", "split graph"), variant="split"), ONNX.decoder)


def test_two_artifacts_share_a_decoder() -> None:
    made = replace(SPLIT, decoder=None)
    assert shares_decoder(made.denoiser, HELD)
    assert not shares_decoder(made.denoiser, [IR, PT2])
    assert not shares_decoder(ONNX.denoiser, HELD)
    assert merged(HELD, made) == ([*HELD, SPLIT], [])


def test_a_shared_decoder_that_is_made_again_is_that_of_both() -> None:
    other = artifact("onnx", "another decoder")
    again, both = replace(ONNX, decoder=other), replace(SPLIT, decoder=other)
    assert merged([ONNX, SPLIT], again) == ([again, both], [])
    assert merged([SPLIT, PT2], again) == ([both, PT2, again], [])
    assert merged([ONNX, SPLIT], both) == ([again, both], [])


def test_a_split_artifact_goes_with_its_own_source() -> None:
    derived = ArtifactPair(replace(artifact("ir", "split ir", "split graph"), variant="split"))
    other = replace(ONNX, denoiser=artifact("onnx", "another graph"))
    assert merged([ONNX, SPLIT, derived], other) == ([other, SPLIT, derived], [])
    again = replace(SPLIT, denoiser=replace(SPLIT.denoiser, files=other.denoiser.files))
    assert merged([ONNX, SPLIT, derived], again) == ([ONNX, again], [derived])


def test_two_graphs_are_joined_as_they_are_taken_apart() -> None:
    x, t = Tensor("x", "float32", ("N", 4), ""), Tensor("t", "float32", ("N",), "")
    c = Tensor("c", "float32", ("N", 6), "what the blocks need of time and label")
    first = replace(artifact("onnx", "first", io=(t, c)), files=(FileEntry("first", "1" * 64),), batch=(4, 4))
    first = replace(first, tolerance=Tolerance(1e-5, 1e-3))
    second = replace(artifact("onnx", "second", io=(x, c, replace(x, name="out"))), precision="bf16")
    both = joined(first, second)
    assert (both.id, both.batch, both.io) == ("onnx-bf16-split", (1, 8), (x, t, replace(x, name="out")))
    assert [entry.path for entry in both.files] == ["onnx.bin", "first"]
    assert both.stages() == (replace(first, variant="split"), replace(second, variant="split"))


@pytest.mark.parametrize("pairs", [[ONNX, IR], [PT2], [ONNX, PT2], [ONNX, SPLIT], [SPLIT]])
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
