"""The inputs that ranges are measured on: real states, all times, all labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exporting import export, load_trained

from dexport.quantisation import states
from dexport.quantisation.states import calibration_inputs, fp32_times
from drun.bundle import reading as bundles
from drun.bundle.card import Card, Classes
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.run.golden import read_golden
from drun.run.opening import Opened, choose, open_candidate
from drun.run.sampling import Sampling

pytestmark = pytest.mark.usefixtures("few_states")


@pytest.fixture(scope="module")
def guided(sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "guided"
    return export(load_trained(sit_checkpoint, num_heads="2"), out).bundle


@pytest.fixture
def opened(guided: Bundle) -> Opened:
    return open_candidate(guided, choose(guided, "openvino"))


def test_every_time_of_int8_is_taken_as_often_and_every_label_in_turn(guided: Bundle, opened: Opened) -> None:
    card = guided.manifest.card
    assert card.can_guide
    inputs = calibration_inputs(card, opened, 1, silent)
    x, t, y = (np.concatenate(arrays) for arrays in zip(*inputs, strict=True))
    assert x.dtype == t.dtype == np.float32
    assert x.shape[1:] == card.data.shape
    times, counts = np.unique(t, return_counts=True)
    assert len(times) == states.NUM_STEPS - 1  # the first step is computed in float32
    assert not any(low <= t <= high for t in times for low, high in fp32_times(card))
    assert {*counts.tolist()} == {-(-states.NUM_STATES // len(times))}
    assert len(inputs) == counts.sum()
    assert card.classes is not None
    assert {*y.tolist()} == {*range(card.classes.count), card.classes.null_label}
    assert (y == card.classes.null_label).mean() == 0.5
    assert all(len({*y[t == time].tolist()}) > 1 for time in times)


def test_the_states_are_those_of_sampling(guided: Bundle, opened: Opened) -> None:
    """The first are nearly noise of their own seed, the last nearly the final images; none is the golden file's."""
    card = guided.manifest.card
    inputs = calibration_inputs(card, opened, 1, silent)
    x, count = np.concatenate([one[0] for one in inputs]), len(inputs) // (states.NUM_STEPS - 1)
    noise = PhiloxNoise(states.SEED, range(count), card.data.shape)()
    final = Sampling(card, opened, states.settings_of(card, states.SEED, states.CFG)).draw(range(count))
    assert np.linalg.norm(x[:count] - noise) < 0.7 * np.linalg.norm(final - noise)
    assert np.linalg.norm(x[-count:] - final) < 0.5 * np.linalg.norm(x[:count] - final)
    assert all(np.abs(call.x[0] - x).max(axis=(1, 2, 3)).min() > 0.1 for call in read_golden(guided).calls)


def test_larger_batches_are_filled_up_with_the_first(guided: Bundle, opened: Opened) -> None:
    single = calibration_inputs(guided.manifest.card, opened, 1, silent)
    size = len(single) // 3  # so that the last of four batches is not full
    batches = calibration_inputs(guided.manifest.card, opened, size, silent)
    assert [len(one[0]) for one in batches] == [size] * 4
    for array, alone in zip(batches[-1], single[0], strict=True):
        np.testing.assert_array_equal(array[len(single) - 3 * size :][:1], alone)


def test_a_model_without_classes(free_bundle: Path) -> None:
    bundle = bundles.read(free_bundle)
    inputs = calibration_inputs(bundle.manifest.card, open_candidate(bundle, choose(bundle, "openvino")), 1, silent)
    assert all(len(one) == 2 for one in inputs)


def test_more_classes_than_states_are_spread_evenly() -> None:
    """Their order is not that of time."""
    labels = states._labels(Classes(1001, 1001), 42)
    assert labels[1::2].tolist() == [1001] * 21
    assert sorted(labels[::2].tolist()) == [*range(0, 1001, 50)]
    assert abs(np.corrcoef(labels[::2], np.arange(21))[0, 1]) < 0.5


def test_the_times_that_stay_in_float32(guided: Bundle) -> None:
    card = guided.manifest.card

    def times(prediction: str, process: DiscreteProcess | FlowProcess) -> list[list[float]]:
        return fp32_times(Card(process, prediction, card.data))

    assert times("noise", DiscreteProcess()) == [[750, 999], [0, 20]]
    assert times("x0", DiscreteProcess()) == [[990, 999]]
    assert times("noise", DiscreteProcess("linear", 40)) == [[30, 39], [0, 0.8]]
    assert times("velocity", FlowProcess(noise_time=1)) == [[0.99, 1]]
    assert times("velocity", FlowProcess(noise_time=0)) == [[0, pytest.approx(0.01)]]


def test_a_short_process_gives_as_many_states(guided: Bundle, opened: Opened) -> None:
    card = replace(guided.manifest.card, process=DiscreteProcess("linear", 40), prediction="noise")
    card = replace(card, sampler=replace(card.sampler, name="ddim", options={}))
    assert len(calibration_inputs(card, opened, 1, silent)) == states.NUM_STATES
