"""A session as an engine: the device walk with a real network, on the processor's memory in place of a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from openings import on

from dbench.suites.kernel.processor import HAS_COMPILER, Processor
from drun.backends.ort.engine import SessionEngine
from drun.backends.ort.node_count import NodeCount
from drun.backends.ort.session import open_session, settings_of
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.device.calls import DeviceCalls
from drun.device.walk import DeviceWalk
from drun.diffusion import samplers
from drun.diffusion.guidance import with_guidance
from drun.diffusion.loop import NOBODY
from drun.diffusion.noise import PhiloxNoise
from drun.errors import BackendUnavailable


def engine_of(bundle: Bundle) -> SessionEngine:
    artifact, settings = bundle.manifest.artifacts[0], settings_of(1)
    node_count = NodeCount(settings)
    return SessionEngine(
        open_session(bundle, artifact, settings, ["CPUExecutionProvider"]), artifact, "cpu", node_count
    )


@pytest.fixture
def labelled(make_bundle: Callable[..., Path]) -> Bundle:
    return bundles.read(make_bundle(conditional=True))


@pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")
@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_a_walk_is_that_of_the_host(labelled: Bundle, weight: float) -> None:
    card = labelled.manifest.card
    table = with_guidance(samplers.step_table("ddpm", card.process, card.prediction, 20), weight)
    labels, finals = np.array([7, 1, 4]), []
    for carry in (DeviceWalk(Processor(), engine_of(labelled), 3), on("ort", labelled).walk):
        noise = PhiloxNoise(5, range(3), card.data.shape)
        finals.append(carry(table, noise(), labels, card.guidance, noise, NOBODY))
    np.testing.assert_allclose(finals[0], finals[1], rtol=1e-5, atol=1e-6)


def test_calls_with_arrays_of_the_host(labelled: Bundle) -> None:
    calls, backend = DeviceCalls(Processor(), engine_of(labelled), (3, 8, 8)), on("ort", labelled).backend
    rng = np.random.default_rng(0)
    for size in (1, 4, 4, 2):
        x, y = rng.standard_normal((size, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, size)
        t = rng.integers(0, 100, size).astype(np.float32)
        np.testing.assert_array_equal(calls(x, t, y), backend.predict(x, t, y))


def test_another_thread_may_call(labelled: Bundle) -> None:
    calls = DeviceCalls(Processor(), engine_of(labelled), (3, 8, 8))
    inputs = np.ones((1, 3, 8, 8), np.float32), np.full(1, 9, np.float32), np.ones(1, np.int64)
    with ThreadPoolExecutor(1) as thread:
        got = thread.submit(calls, *inputs).result().copy()
    np.testing.assert_array_equal(calls(*inputs), got)


def test_the_first_call_counts_the_nodes(labelled: Bundle) -> None:
    engine = engine_of(labelled)
    assert engine.node_count.describe() is None
    calls = DeviceCalls(Processor(), engine, (3, 8, 8))
    for _ in range(2):
        calls(np.zeros((1, 3, 8, 8), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64))
    described = engine.node_count.describe()
    assert described is not None
    assert described.endswith(" copies between")
    assert "Gather " in described


def test_a_call_that_fails(labelled: Bundle) -> None:
    calls = DeviceCalls(Processor(), engine_of(labelled), (3, 8, 8))
    with pytest.raises(BackendUnavailable, match="ONNX Runtime failed on a batch of 1: "):
        calls(np.zeros((1, 3, 8, 8), np.float32), np.full(1, 1e6, np.float32), np.zeros(1, np.int64))
