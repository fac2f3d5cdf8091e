"""The walk on a device: what it shows and reports, what it keeps, and when it waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from toys import Toy

from dbench.suites.kernel.processor import HAS_COMPILER, Processor
from drun.device.walk import DeviceWalk, why_on_host
from drun.diffusion import samplers
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import NOBODY, Observer, walk
from drun.diffusion.noise import NoiseSource, PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import Clip, Row, StepTable
from drun.errors import NotFiniteError

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")

SHAPE = (2, 3, 5)
LABELS = np.array([4, 0, 2])


def ddpm(steps: int, weight: float = 1.0) -> StepTable:
    return with_guidance(samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", steps), weight)


class Uploaded:
    """The noise of a file: the same numbers as a stream's, whose numbering the device does not know."""

    def __init__(self, source: PhiloxNoise) -> None:
        self.source = source
        self.num_drawn = 0

    def __call__(self) -> Any:
        self.num_drawn += 1
        return self.source()


def noise_of(count: int = 3, seed: int = 7) -> PhiloxNoise:
    return PhiloxNoise(seed, range(count), SHAPE)


def final(carry: Any, table: StepTable, noise: NoiseSource, observer: Observer = NOBODY, labels: Any = LABELS) -> Any:
    x = noise()
    return carry(table, x, None if labels is None else labels[: len(x)], Guidance(5), noise, observer)


def on_host(toy: Toy, table: StepTable, noise: NoiseSource, labels: Any = LABELS) -> Any:
    return final(lambda *args: walk(toy.predict, *args), table, noise, labels=labels)


@pytest.fixture
def toy() -> Toy:
    return Toy(SHAPE, num_classes=5, scale=1e-3)


@pytest.fixture
def device() -> Processor:
    return Processor()


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 35])
def test_uploaded_noise_is_there_before_its_row(toy: Toy, device: Processor, steps: int) -> None:
    table = ddpm(steps)
    uploaded = Uploaded(noise_of())
    got = final(DeviceWalk(device, toy, 2), table, uploaded)
    np.testing.assert_allclose(got, on_host(toy, table, noise_of()), rtol=1e-5, atol=1e-6)
    assert uploaded.num_drawn == 1 + table.num_noises  # no draw too many


def test_frames_and_progress(toy: Toy, device: Processor) -> None:
    table, shown, host, done = ddpm(23), {}, {}, []
    rows = (-1, 0, 4, 9, 10, 22)
    observer = Observer(done.append, rows, lambda row, x: shown.update({row: x.copy()}))
    got = final(DeviceWalk(device, toy, 2), table, noise_of(), observer)
    watching = Observer(lambda done: None, rows, lambda row, x: host.update({row: x.copy()}))
    final(lambda *args: walk(toy.predict, *args), table, noise_of(), watching)
    assert list(shown) == list(rows)
    for row in rows:
        np.testing.assert_allclose(shown[row], host[row], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(shown[22], got)
    assert done == [10, 20, 23]


def test_the_host_waits_once_for_ten_rows(toy: Toy, device: Processor) -> None:
    final(DeviceWalk(device, toy, 2), ddpm(40), noise_of())
    assert (device.num_updates, device.num_waits) == (40, 4)


@pytest.mark.parametrize(("row", "steps"), [(0, "1 and 10"), (13, "11 and 20"), (24, "21 and 25")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite(device: Processor, row: int, steps: str, value: float) -> None:
    toy = Toy(SHAPE, num_classes=5)
    predict, calls = toy.predict, iter(range(100))

    def broken(*args: Any) -> Any:
        out = predict(*args)
        if next(calls) == row + 1:  # the first call is made twice
            out[1, 1, 2, 3] = value
        return out

    toy.predict = broken  # type: ignore[method-assign]
    rows = tuple(Row(t=1 - i / 25, p=0.0, q=1.0, a=0.9, b=0.1) for i in range(25))
    with pytest.raises(NotFiniteError, match=f"not finite between steps {steps} of 25"):
        final(DeviceWalk(device, toy, 2), StepTable(rows), noise_of())


def test_a_kind_of_row_is_captured_once_for_all_batches_of_a_shape(toy: Toy, device: Processor) -> None:
    carry = DeviceWalk(device, toy, 2)
    for seed, weight, steps in ((1, 1.0, 12), (2, 2.0, 17), (3, 2.0, 5)):
        table = ddpm(steps, weight)
        got = final(carry, table, noise_of(seed=seed))
        np.testing.assert_allclose(got, on_host(toy, table, noise_of(seed=seed)), rtol=1e-5, atol=1e-6)
    assert device.num_captured == 2
    assert toy.batches == [3, 6]


def test_another_shape_and_no_labels_bind_anew(toy: Toy, device: Processor) -> None:
    carry, table = DeviceWalk(device, toy, 2), ddpm(12)
    for count, labels in ((3, LABELS), (2, LABELS), (2, None)):
        got = final(carry, table, noise_of(count), labels=labels)
        np.testing.assert_allclose(got, on_host(toy, table, noise_of(count), labels), rtol=1e-5, atol=1e-6)
    assert device.num_captured == 3


def test_an_engine_that_replays_its_own_graph_is_not_captured(toy: Toy, device: Processor) -> None:
    toy.is_capturable = False
    got = final(DeviceWalk(device, toy, 2), ddpm(12, 2.0), noise_of())
    np.testing.assert_allclose(got, on_host(toy, ddpm(12, 2.0), noise_of()), rtol=1e-5, atol=1e-6)
    assert device.num_captured == 0


def test_guidance_without_labels_is_one_call(device: Processor) -> None:
    toy = Toy(SHAPE, scale=1e-3)
    got = final(DeviceWalk(device, toy, 2), ddpm(12, 2.0), noise_of(), labels=None)
    np.testing.assert_allclose(got, on_host(toy, ddpm(12, 2.0), noise_of(), None), rtol=1e-5, atol=1e-6)
    assert toy.batches == [3]


def test_another_thread_may_walk(toy: Toy, device: Processor) -> None:
    """A GPU is refused to a thread that has not made it current, and so is the processor in its place."""
    carry, table = DeviceWalk(device, toy, 2), ddpm(12)
    with ThreadPoolExecutor(1) as thread:
        got = thread.submit(final, carry, table, noise_of()).result()
    np.testing.assert_array_equal(final(carry, table, noise_of()), got)


def test_the_states_given_stay_as_they_are(toy: Toy, device: Processor) -> None:
    noise = noise_of()
    x = noise()
    before = x.copy()
    DeviceWalk(device, toy, 2)(ddpm(3), x, LABELS, Guidance(5), noise, NOBODY)
    np.testing.assert_array_equal(x, before)


def test_what_the_kernel_cannot_do() -> None:
    row = Row(t=1, p=0.0, q=1.0, a=1.0, b=0.0)
    x = np.zeros((1, *SHAPE), np.float32)
    assert why_on_host(StepTable((row,), Clip()), x) is None
    assert why_on_host(StepTable((row,), Clip(0.995)), x) == "dynamic thresholding"
    assert why_on_host(StepTable((row,)), x.astype(np.float64)) == "states of float64"
