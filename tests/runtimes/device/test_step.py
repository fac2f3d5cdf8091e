"""The kernel, compiled for the processor, against the loop on the host."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from toys import Toy

from dbench.suites.kernel.processor import HAS_COMPILER, Processor, kernel
from drun.device.layout import COLUMNS, Position, Walk
from drun.device.walk import DeviceWalk
from drun.diffusion import samplers
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import NOBODY, walk
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import Clip, Row, StepTable

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")

PROCESSES: dict[str, tuple[Process, str]] = {
    "discrete": (DiscreteProcess("linear"), "noise"),
    "flow": (FlowProcess("linear", noise_time=1), "velocity"),
}
ALL = [(name, kind) for kind, (process, _) in PROCESSES.items() for name in samplers.fitting(process)]
GUIDANCE = {
    "none": (1.0, None, Guidance()),
    "all channels": (1.8, None, Guidance(5)),
    "first channels": (3.0, None, Guidance(5, 2)),
    "interval": (1.8, (0.2, 0.7), Guidance(5)),
}


def difference(a: Any, b: Any) -> float:
    """Relative L2."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def both(
    table: StepTable, toy: Toy, labels: Any, guidance: Guidance, seed: int = 7, indices: Any = (3, 0, 12)
) -> tuple[Any, Any]:
    """The states of the device and those of the host."""
    walks = (DeviceWalk(Processor(), toy, toy.out_channels), lambda *args: walk(toy.predict, *args))
    finals = []
    for carry in walks:
        noise = PhiloxNoise(seed, indices, toy.shape)
        finals.append(carry(table, noise(), labels, guidance, noise, NOBODY))
    return finals[0], finals[1]


def test_the_structs_and_columns_are_those_of_the_kernel() -> None:
    assert kernel().size_of_walk() == ctypes.sizeof(Walk)
    assert kernel().num_columns() == len(COLUMNS)
    assert ctypes.sizeof(Position) == 8


@pytest.mark.parametrize(("seed", "sample"), [(0, 0), (7, 12), (2**64 - 1, 2**63)])
def test_words_are_those_of_the_stream(seed: int, sample: int) -> None:
    reference = np.random.Philox(key=np.array([seed, sample], np.uint64)).random_raw(4 * 50).reshape(50, 4)
    words = np.empty(4, np.uint64)
    for block, expected in enumerate(reference):
        args = [ctypes.c_uint64(value) for value in (seed, sample, 1 + block)]
        kernel().four_words(*args, ctypes.c_void_p(words.ctypes.data))
        np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("shape", [(1, 3, 5), (3, 8, 8), (1, 1, 2), (2, 1, 3), (1, 1, 1), (3, 16, 33)])
def test_normals_are_those_of_the_stream(shape: tuple[int, ...]) -> None:
    """Sizes of all remainders by 4, so that draws begin within a block of Philox; the state becomes z itself."""
    rows = [Row(t=0.5, p=0.0, q=1.0, a=0.0, b=0.0, c=1.0) for _ in range(9)]
    toy = Toy(shape)
    for length in range(1, 10):
        ours, theirs = both(StepTable(tuple(rows[:length])), toy, None, Guidance())
        assert (np.abs(ours - theirs) <= np.spacing(np.abs(theirs))).all()


@pytest.mark.parametrize(("sampler", "kind"), ALL)
@pytest.mark.parametrize("guided", GUIDANCE)
def test_250_rows_of_every_sampler_and_every_guidance(sampler: str, kind: str, guided: str) -> None:
    process, prediction = PROCESSES[kind]
    weight, interval, guidance = GUIDANCE[guided]
    if interval is not None and kind == "discrete":
        interval = (200.0, 700.0)
    steps = 125 if sampler == "heun" else 250  # it calls the network twice in a step
    table = with_guidance(samplers.step_table(sampler, process, prediction, steps), weight, interval)
    toy = Toy((3, 6, 7), num_classes=5, scale=1e-3 if kind == "discrete" else 1.0)
    ours, theirs = both(table, toy, np.array([4, 0, 2]), guidance)
    assert np.isfinite(theirs).all()
    assert difference(ours, theirs) <= 1e-6


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("clip_x0", [False, True])
def test_a_learned_variance(weight: float, clip_x0: bool) -> None:
    options = {"variance": "learned_range", "clip_x0": clip_x0}
    table = samplers.step_table("ddpm", PROCESSES["discrete"][0], "noise", 250, options, "learned_range")
    toy = Toy((3, 6, 7), num_classes=5, out_channels=6, scale=1e-3)
    ours, theirs = both(with_guidance(table, weight), toy, np.array([4, 0, 2]), Guidance(5, 2))
    assert difference(ours, theirs) <= 1e-6


def any_table(seed: int, num_rows: int = 40) -> StepTable:
    """Rows of every kind in any order, with up to three earlier estimates, that keep states at about 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num_rows):
        p, q, a, b, *d = rng.uniform(-0.3, 0.3, 4 + min(i, rng.integers(0, 4))).tolist()
        c, log_variance = [(0.0, None), (rng.uniform(0.1, 0.5), None), (0.0, (-3.0, -1.0))][rng.integers(0, 3)]
        w = [1.0, -0.5, 1.8][rng.integers(0, 3)]
        rows.append(Row(rng.uniform(), p, q, a, b, c, tuple(d), log_variance, w=w))
    return StepTable(tuple(rows), Clip() if seed % 2 else None)


@pytest.mark.parametrize("seed", range(8))
def test_any_table(seed: int) -> None:
    toy = Toy((3, 5, 5), num_classes=5, out_channels=6)
    ours, theirs = both(any_table(seed), toy, np.array([4, 0, 2]), Guidance(5, 2))
    assert difference(ours, theirs) <= 1e-6
