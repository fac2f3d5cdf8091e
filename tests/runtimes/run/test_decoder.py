"""The decoder: an image depends on no other latent, however many are decoded at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from openings import on, on_null

from drun.bundle import reading as bundles
from drun.bundle.artifact import DECODER_TOLERANCES, Artifact, FileEntry, Tensor
from drun.bundle.card import StateSpace
from drun.bundle.manifest import DecoderEntry
from drun.bundle.reading import Bundle
from drun.files import sha256
from drun.run.decoder import DecoderSession, Pixels, has_pixels
from drun.settings import RuntimeOptions

STATE, IMAGE = (3, 8, 8), (3, 16, 16)


def decoded(z: np.ndarray) -> np.ndarray:
    """What the graph below computes: each latent four times, halved."""
    return 0.5 * np.tile(z, (1, 1, 2, 2))


def with_decoder(path: Path, batch: tuple[int, int]) -> Bundle:
    """The bundle at `path` with a decoder of its latents, for `batch` of them at a time."""
    size = batch[0] if batch[0] == batch[1] else "N"
    constants = [
        numpy_helper.from_array(np.array([1, 1, 2, 2]), "repeats"),
        numpy_helper.from_array(np.float32(0.5), "half"),
    ]
    node = helper.make_node
    nodes = [node("Tile", ["z", "repeats"], ["tiled"]), node("Mul", ["tiled", "half"], ["image"])]
    z, image = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, *shape])
        for name, shape in (("z", STATE), ("image", IMAGE))
    )
    graph = helper.make_graph(nodes, "decoder", [z], [image], constants)
    file = path / "decoder.fp32.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), file)
    io = Tensor("z", "float32", ("N", *STATE), "latents"), Tensor("image", "float32", ("N", *IMAGE), "images")
    files = (FileEntry(file.name, sha256(file)),)
    artifact = Artifact("onnx", "fp32", io, files, batch, {}, {}, DECODER_TOLERANCES["fp32"])
    bundle = bundles.read(path)
    return replace(bundle, manifest=replace(bundle.manifest, decoder=DecoderEntry(IMAGE, (artifact,))))


@pytest.fixture
def latents(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle("latents", data=StateSpace("latent", STATE))


@pytest.mark.parametrize(
    ("allowed", "batch", "size"),
    [((1, 8), 5, 2), ((1, 8), 1, 1), ((1, 1), 5, 1), ((4, 4), 1, 4), ((3, 8), 9, 3)],
)
def test_so_many_are_decoded_at_a_time(latents: Path, allowed: tuple[int, int], batch: int, size: int) -> None:
    """Two at most, unless the graph takes no fewer; what is missing is filled up."""
    bundle = with_decoder(latents, allowed)
    z = np.random.default_rng(0).standard_normal((5, *STATE)).astype(np.float32)
    sizes: list[int] = []
    with on("ort", bundle) as opened, DecoderSession(bundle, opened) as decoder:
        predict = decoder.opened.backend.predict
        decoder.opened.backend.predict = lambda z: (sizes.append(len(z)), predict(z))[1]  # type: ignore[method-assign]
        whole = decoder(z, batch)
        assert set(sizes) == {size}
        assert (whole.shape, whole.dtype) == ((5, *IMAGE), np.float32)
        np.testing.assert_allclose(whole, decoded(z), rtol=1e-6)
        kept = whole.copy()
        np.testing.assert_allclose(decoder(z[3:4]), decoded(z[3:4]), rtol=1e-6)
        np.testing.assert_array_equal(whole, kept)  # not the runtime's own memory


def test_it_has_the_denoisers_options_but_a_device_of_its_own_backend(latents: Path) -> None:
    """Null has no decoder, so ONNX Runtime decodes, whatever device null was asked for."""
    bundle = with_decoder(latents, (1, 8))
    with on("ort", bundle, threads=1, device="cpu") as opened, DecoderSession(bundle, opened) as decoder:
        assert decoder.opened.backend.options == RuntimeOptions(threads=1, device="cpu")
    denoiser = on_null(bundle)
    denoiser.backend.options = RuntimeOptions(threads=1, device="moon")
    with DecoderSession(bundle, denoiser) as decoder:
        assert decoder.candidate.backend == "ort"
        assert decoder.opened.backend.options == RuntimeOptions(threads=1, device=None)


def test_pixels_of_either_space(bundle: Bundle, latents: Path) -> None:
    states = np.ones((2, *STATE), np.float32)
    pixels = Pixels(bundle, on_null(bundle))
    assert pixels.shape == STATE
    assert pixels(states) is states
    latent = with_decoder(latents, (1, 8))
    pixels = Pixels(latent, on_null(latent))
    assert pixels.shape == IMAGE
    np.testing.assert_allclose(pixels(states), decoded(states), rtol=1e-6)
    pixels.close()
    assert [has_pixels(one) for one in (bundle, latent, bundles.read(latents))] == [True, True, False]
