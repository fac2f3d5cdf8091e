"""Decoding and writing beside the drawing: the files of a serial run, and nothing is lost by an error of either."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoders import with_decoder
from openings import by
from runs import ANCESTRAL, Counted, pngs

from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BackendUnavailable, OutOfMemory
from drun.run import images
from drun.run.folder import run
from drun.run.output import Output
from drun.run.session import Session

#: 7 images in batches of 3, 5 steps each; the decoder is called twice a batch.
STEPS, CALLS = 5, 2


class Drawn(Counted):
    """The null backend, which calls `before` with the number of each call."""

    def __init__(self, bundle: Bundle, before: Callable[[int], None] = lambda call: None) -> None:
        super().__init__(bundle)
        self.before = before

    def predict(self, *inputs: Any) -> Any:
        self.before(len(self.batches))
        return super().predict(*inputs)


@pytest.fixture
def latent(latents: Path) -> Bundle:
    return with_decoder(latents, (1, 8))


def opened(bundle: Bundle, backend: Drawn, before_decoding: Callable[[int], None] = lambda call: None) -> Session:
    """A session whose decoder calls `before_decoding` with the number of each call."""
    session = Session(bundle, by(backend))
    decoder = session.pixels().decoder
    if decoder is not None:
        calls, predict = iter(range(1000)), decoder.opened.backend.predict

        def watched(*inputs: Any) -> Any:
            before_decoding(next(calls))
            return predict(*inputs)

        decoder.opened.backend.predict = watched  # type: ignore[method-assign]
    return session


def draw(session: Session, folder: Path, save_raw: bool = False) -> int:
    return run(session, session.sampling(ANCESTRAL), Output(folder, 7, 3, save_raw=save_raw), silent)


def serial(bundle: Bundle, folder: Path) -> dict[str, bytes]:
    """The files of all samples, a batch drawn, decoded and written after the other by this thread."""
    session = Session(bundle, by(Counted(bundle)))
    sampling, pixels = session.sampling(ANCESTRAL), session.pixels()
    for batch in ([0, 1, 2], [3, 4, 5], [6]):
        states = sampling.draw(batch, batch=3)
        for i, state, image in zip(batch, states, images.to_uint8(pixels(states, 3)), strict=True):
            images.write_png(folder / f"{i:06d}.png", image)
            images.write_npz(folder / "raw" / f"{i:06d}.npz", {"x": (state.shape, state.dtype, [state])})
    return samples(folder)


def samples(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("0*.*")}


@pytest.mark.parametrize("space", ["bundle", "latent"])
def test_the_files_are_those_of_a_serial_run(request: pytest.FixtureRequest, tmp_path: Path, space: str) -> None:
    bundle: Bundle = request.getfixturevalue(space)
    assert draw(opened(bundle, Drawn(bundle)), tmp_path / "beside", save_raw=True) == 7
    expected = serial(bundle, tmp_path / "serial")
    assert len(expected) == 14
    assert samples(tmp_path / "beside") == expected


def test_a_batch_is_decoded_while_the_next_one_is_drawn(latent: Bundle, tmp_path: Path) -> None:
    """The first call of the decoder waits until the second batch is begun."""
    begun, in_time = threading.Event(), []
    backend = Drawn(latent, lambda call: begun.set() if call == STEPS else None)
    session = opened(latent, backend, lambda call: in_time.append(begun.wait(30)))
    assert draw(session, tmp_path) == 7
    assert in_time == [True] * (2 * CALLS + 1)


def test_the_drawing_waits_for_a_slow_decoder(latent: Bundle, tmp_path: Path) -> None:
    """While the first batch is decoded, the second one is drawn, and the third one is not begun."""
    backend, counts = Drawn(latent), []

    def slow(call: int) -> None:
        deadline = time.monotonic() + 30
        while call == 0 and len(backend.batches) < 2 * STEPS and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        counts.append(len(backend.batches))

    assert draw(opened(latent, backend, slow), tmp_path) == 7
    assert counts[:CALLS] == [2 * STEPS] * CALLS


def test_a_failed_decoder_ends_the_run_within_a_step(latent: Bundle, tmp_path: Path) -> None:
    failed = threading.Event()

    def fail(call: int) -> None:
        failed.set()
        raise MemoryError

    def slowly(call: int) -> None:
        if call >= STEPS:
            assert failed.wait(30)
            time.sleep(0.05)

    backend = Drawn(latent, slowly)
    with pytest.raises(OutOfMemory, match=r"^sampling ran out of memory: lower --batch, which is 3$"):
        draw(opened(latent, backend, fail), tmp_path)
    assert STEPS < len(backend.batches) < 2 * STEPS
    assert pngs(tmp_path) == {}


def test_an_error_of_the_last_batch_is_raised(latent: Bundle, tmp_path: Path) -> None:
    def fail(call: int) -> None:
        if call == 2 * CALLS:
            raise BackendUnavailable("the decoder is gone")

    with pytest.raises(BackendUnavailable, match=r"^the decoder is gone$"):
        draw(opened(latent, Drawn(latent), fail), tmp_path)
    assert len(pngs(tmp_path)) == 6


@pytest.mark.parametrize("kind", [KeyboardInterrupt, BackendUnavailable])
def test_what_was_drawn_is_written_whatever_stops_the_drawing(
    latent: Bundle, tmp_path: Path, kind: type[BaseException]
) -> None:
    """The drawing of the second batch fails before the first one is decoded."""
    stopped, threads = threading.Event(), {*threading.enumerate()}

    def stop(call: int) -> None:
        if call == STEPS + 1:
            stopped.set()
            raise kind

    with pytest.raises(kind):
        draw(opened(latent, Drawn(latent, stop), lambda call: stopped.wait(30)), tmp_path / "out", save_raw=True)
    assert {*threading.enumerate()} <= threads
    expected = serial(latent, tmp_path / "serial")
    first = {name for name in expected if name.endswith(("0.png", "1.png", "2.png", "0.npz", "1.npz", "2.npz"))}
    assert samples(tmp_path / "out") == {name: expected[name] for name in first}
    assert draw(opened(latent, Drawn(latent)), tmp_path / "out", save_raw=True) == 4
    assert samples(tmp_path / "out") == expected


def test_a_session_decodes_beside_the_drawing_too(latent: Bundle) -> None:
    begun, in_time = threading.Event(), []
    backend = Drawn(latent, lambda call: begun.set() if call == STEPS else None)
    session = opened(latent, backend, lambda call: in_time.append(begun.wait(30)))
    wanted: dict[str, Any] = {"seed": 3, "steps": STEPS, "sampler": "ddpm", "output": "float"}
    whole = session.sample(7, batch=3, **wanted)
    assert in_time == [True] * (2 * CALLS + 1)
    np.testing.assert_array_equal(
        whole, np.concatenate([session.sample(1, first=i, batch=1, **wanted) for i in range(7)])
    )


def test_a_session_raises_the_errors_of_its_decoder(latent: Bundle) -> None:
    def fail(call: int) -> None:
        if call == CALLS:
            raise BackendUnavailable("the decoder is gone")

    session, threads = opened(latent, Drawn(latent), fail), {*threading.enumerate()}
    with pytest.raises(BackendUnavailable, match=r"^the decoder is gone$"):
        session.sample(9, batch=3, steps=3, sampler="ddpm")
    assert {*threading.enumerate()} <= threads
