"""`drun` as a library: the images of the command, in memory, whichever thread asks for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drun
from drun.bundle import card as cards
from drun.errors import ConfigError

MakeBundle = Callable[..., Path]
NAMES = ("zero", "one, two", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def path(make_bundle: MakeBundle) -> Path:
    return make_bundle(conditional=True, classes=cards.Classes(10, 10, NAMES))


def test_it_draws_what_the_command_draws(path: Path, in_process: Callable[[str], Any], tmp_path: Path) -> None:
    arguments = ("--steps", 6, "--seed", 5, "--cfg", 1.5, "--interval", "10,60", "--labels", "3,two", "-n", 7)
    result = in_process("drun")("--bundle", path, *arguments, "--batch", 3, "--out", tmp_path / "out")
    assert result.code == 0
    with np.load(tmp_path / "out" / "samples.npz") as file:
        written = file["arr_0"]
    with drun.load(path).session("ort", threads=1) as session:
        wanted: dict[str, Any] = {"seed": 5, "labels": [3, "two"], "steps": 6, "cfg": 1.5, "interval": (10, 60)}
        drawn = session.sample(7, batch=3, **wanted)
        np.testing.assert_array_equal(drawn, written)
        floats = session.sample(7, batch=3, output="float", **wanted)
        pictures = session.sample(7, batch=3, output="pil", **wanted)
    assert (drawn.shape, drawn.dtype, floats.shape, floats.dtype) == ((7, 8, 8, 3), np.uint8, (7, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(np.rint((floats.clip(-1, 1) + 1) * 127.5), drawn)
    assert [np.asarray(picture).tolist() for picture in pictures] == drawn.tolist()


def test_any_images_of_a_seed(path: Path) -> None:
    session = drun.load(path).session()
    whole = session.sample(5, steps=4, batch=1)
    np.testing.assert_array_equal(session.sample(2, first=3, steps=4, batch=1), whole[3:])
    assert len(np.unique(whole.reshape(5, -1), axis=0)) == 5


def test_classes_are_numbers_names_or_words(path: Path) -> None:
    session = drun.load(path).session()

    def drawn(labels: Any) -> list[Any]:
        images: list[Any] = session.sample(3, steps=3, labels=labels).tolist()
        return images

    assert drawn([1, 2]) == drawn(["one, two", "two"]) == drawn("1,2") != drawn([2, 1])
    assert drawn(None) == drawn("balanced") == drawn([0, 1, 2])


def test_threads_get_what_they_would_get_alone(path: Path) -> None:
    session = drun.load(path).session(threads=1)
    requests = [{"n": 1 + i % 3, "seed": i, "steps": 3 + i % 2, "labels": [i % 10]} for i in range(12)]
    alone = [session.sample(**request) for request in requests]  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda request: session.sample(**request), requests))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, r"^n got 0, expected a whole number from 1 to "),
        ({"output": "png"}, r"^output got 'png', expected uint8 or float or pil$"),
        ({"steps": 101}, r"this model has 100 timesteps"),
        ({"labels": ["eleven"]}, r"--labels got 'eleven'"),
        ({"labels": [10]}, r"--labels got '10'"),
        ({"sampler": "plms"}, r"unknown sampler 'plms'"),
        ({"options": {"eta": "x"}, "sampler": "ddim"}, r"eta got 'x'"),
        ({"cfg": float("nan")}, r"--cfg got nan"),
        ({"seed": -1, "steps": 3}, r"seed got -1"),
    ],
)
def test_what_does_not_fit_is_refused(path: Path, arguments: dict[str, Any], message: str) -> None:
    with drun.load(path).session() as session, pytest.raises(ConfigError, match=message):
        session.sample(**arguments)


def test_labels_for_a_model_without_classes(make_bundle: MakeBundle) -> None:
    session = drun.load(make_bundle()).session()
    with pytest.raises(ConfigError, match=r"this model is unconditional"):
        session.sample(labels=[1], steps=3)


def test_latents_without_a_decoder_are_refused(make_bundle: MakeBundle) -> None:
    session = drun.load(make_bundle(data=cards.StateSpace("latent", (3, 8, 8)))).session()
    with pytest.raises(ConfigError, match=r"has no decoder, so it draws latents: export it again with --vae"):
        session.sample(steps=3)
