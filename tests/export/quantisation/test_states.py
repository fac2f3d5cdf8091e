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


def test_every_time_is_taken_as_often_and_every_label_in_turn(guided: Bundle, opened: Opened) -> None:
    card = guided.manifest.card
    assert card.can_guide
    inputs = calibration_inputs(card, opened, 1, silent)
    assert len(inputs) == states.NUM_STATES
    x, t, y = (np.concatenate(arrays) for arrays in zip(*inputs, strict=True))
    assert x.dtype == t.dtype == np.float32
    assert x.shape[1:] == card.data.shape
    times, counts = np.unique(t, return_counts=True)
    assert len(times) == states.NUM_STEPS
    assert {*counts.tolist()} == {states.NUM_STATES // states.NUM_STEPS}
    assert {*y.tolist()} <= {*range(card.classes.count + 1)}  # type: ignore[union-attr]
    assert len({*y.tolist()}) == min(states.NUM_STATES, card.classes.count + 1)  # type: ignore[union-attr]
    assert all(len({*y[t == time].tolist()}) > 1 for time in times)


def test_the_states_are_those_of_sampling(guided: Bundle, opened: Opened) -> None:
    """The first are noise of their own seed, the last nearly the final images; none is the golden file's."""
    card = guided.manifest.card
    inputs = calibration_inputs(card, opened, 1, silent)
    assert inputs[0][1] == card.process.noise_end
    np.testing.assert_array_equal(inputs[0][0], PhiloxNoise(states.SEED, [0], card.data.shape)())
    x, count = np.concatenate([one[0] for one in inputs]), states.NUM_STATES // states.NUM_STEPS
    final = Sampling(card, opened, states.settings_of(card, states.SEED, states.CFG)).draw(range(count))
    assert np.linalg.norm(x[-count:] - final) < 0.5 * np.linalg.norm(x[:count] - final)
    assert all(np.abs(call.x[0] - x).max(axis=(1, 2, 3)).min() > 0.1 for call in read_golden(guided).calls)


def test_larger_batches_are_filled_up_with_the_first(guided: Bundle, opened: Opened) -> None:
    single = calibration_inputs(guided.manifest.card, opened, 1, silent)
    batches = calibration_inputs(guided.manifest.card, opened, 7, silent)
    assert [len(one[0]) for one in batches] == [7] * 4
    for array, alone in zip(batches[-1], single[0], strict=True):
        np.testing.assert_array_equal(array[3:4], alone)


def test_a_model_without_classes(free_bundle: Path) -> None:
    bundle = bundles.read(free_bundle)
    inputs = calibration_inputs(bundle.manifest.card, open_candidate(bundle, choose(bundle, "openvino")), 1, silent)
    assert all(len(one) == 2 for one in inputs)


def test_more_classes_than_states_are_spread_evenly() -> None:
    labels = states._labels(Classes(1000, 1000), 21)
    assert (labels[0], labels[-1]) == (0, 1000)
    assert {*np.diff(labels).tolist()} == {50}


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
