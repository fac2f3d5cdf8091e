"""Two graphs of one network: the same images, and each row of the first graph computed once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from split_bundles import ROWS, add_split, exact_row

from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import BundleError, ConfigError
from drun.run import parity
from drun.run.opening import Opened, candidates, choose, open_candidate
from drun.run.opening import split as opening_split
from drun.run.opening.split import Split
from drun.run.sampling import Sampling
from drun.settings import RuntimeOptions, SamplingSettings

MakeBundle = Callable[..., Path]
UNSPLIT, SPLIT = "onnx-fp32", "onnx-fp32-split"
STEPS = 7
#: Guided in the middle only.
GUIDED = SamplingSettings("ddim", {}, STEPS, seed=2, cfg=2.0, interval=(20.0, 70.0))


@pytest.fixture(params=["ort", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return add_split(make_bundle(conditional=True))


def opened(bundle: Bundle, backend: str, artifact: str = SPLIT, **options: Any) -> Opened:
    return open_candidate(bundle, choose(bundle, backend, artifact=artifact), RuntimeOptions(**options))


def draw(bundle: Bundle, one: Opened, settings: SamplingSettings, indices: list[int]) -> np.ndarray:
    return np.asarray(Sampling(bundle.manifest.card, one, settings).draw(indices))


def drawn(bundle: Bundle, backend: str, artifact: str, settings: SamplingSettings, indices: list[int]) -> np.ndarray:
    with opened(bundle, backend, artifact) as one:
        return draw(bundle, one, settings, indices)


def split_of(one: Opened) -> Split:
    assert isinstance(one.backend, Split)
    return one.backend


def counted(one: Opened, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, int]]]:
    """The times and labels of each call of the conditioning graph from now on."""
    conditioning, calls = split_of(one).table.conditioning, []
    predict = conditioning.predict

    def counting(*inputs: np.ndarray) -> np.ndarray:
        calls.append(list(zip(*(array.tolist() for array in inputs), strict=True)))
        return predict(*inputs)

    monkeypatch.setattr(conditioning, "predict", counting)
    return calls


# ---- the same images ------------------------------------------------------------------------------------


def test_the_golden_file_passes(make_bundle: MakeBundle, backend: str) -> None:
    for conditional in (False, True):
        own = add_split(make_bundle(str(conditional), conditional=conditional))
        with opened(own, backend) as one:
            results = parity.check(own, one, lambda *_: None)
            assert [result.passed for result in results] == [True] * 4
            assert one.describe() == {"ort": "ONNX Runtime on CPU", "openvino": "OpenVINO on CPU"}[backend]


@pytest.mark.parametrize("sampler", samplers.fitting(DiscreteProcess()))
@pytest.mark.parametrize("conditional", [False, True])
def test_every_sampler_draws_the_same(make_bundle: MakeBundle, backend: str, sampler: str, conditional: bool) -> None:
    own = add_split(make_bundle(conditional=conditional))
    guidance = {"cfg": 2.0, "interval": (20.0, 70.0)} if conditional else {}
    settings = SamplingSettings(sampler, samplers.resolve(sampler, {}), STEPS, seed=2, **guidance)
    expected = drawn(own, backend, UNSPLIT, settings, [0, 4, 9])
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(drawn(own, backend, SPLIT, settings, [0, 4, 9]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [(1, 2), (3, 3), (4, 8), (1, 64)])
@pytest.mark.parametrize("count", [1, 5])
def test_padded_and_cut_batches(
    make_bundle: MakeBundle, backend: str, batch: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, indices = add_split(make_bundle(conditional=True), batch=batch), list(range(3, 3 + count))
    expected = drawn(own, backend, UNSPLIT, GUIDED, indices)
    with opened(own, backend) as one:
        calls = counted(one, monkeypatch)
        np.testing.assert_allclose(draw(own, one, GUIDED, indices), expected, rtol=1e-4, atol=1e-5)
        once(calls)
        table = Sampling(own.manifest.card, one, GUIDED).table
        assert one.largest_batch(table) == max(1, batch[1] // 2)


def test_an_image_alone_is_the_one_in_a_batch(bundle: Bundle, backend: str) -> None:
    """To the bit, if the batch is filled up as `Sampling.draw` does it, whatever was drawn before."""
    settings = replace(GUIDED, labels="random")
    with opened(bundle, backend) as one:
        together = draw(bundle, one, settings, [0, 1, 2, 3])
    for index in (3, 1):
        with opened(bundle, backend) as one:
            sampling = Sampling(bundle.manifest.card, one, settings)
            assert np.array_equal(sampling.draw([index], batch=4)[0], together[index])


def test_threads_share_it(bundle: Bundle, backend: str) -> None:
    with opened(bundle, backend) as one:
        jobs = [replace(GUIDED, num_steps=3 + i % 3, labels=str(i % 4)) for i in range(12)]
        alone = [draw(bundle, one, settings, [0, 1]) for settings in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda settings: draw(bundle, one, settings, [0, 1]), jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# ---- the rows -------------------------------------------------------------------------------------------


def once(calls: list[list[tuple[float, int]]]) -> int:
    """How many rows there were. Each was computed once, in full calls but for the last of each block."""
    rows = [key for call in calls for key in dict.fromkeys(call)]
    assert len(rows) == len(set(rows))
    return len(rows)


def test_the_rows_are_those_of_the_graph_and_each_is_computed_once_a_walk(
    bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(bundle, backend) as one:
        calls = counted(one, monkeypatch)
        draw(bundle, one, replace(GUIDED, labels="5"), [0, 1, 2])
        times = [row.t for row in Sampling(bundle.manifest.card, one, GUIDED).table.rows]
        in_interval = [t for t in times if 20 <= t <= 70]
        assert 0 < len(in_interval) < len(times)
        # Label 5 at all times; no class, which is 10, where it is guided.
        expected = {(t, 5) for t in times} | {(t, 10) for t in in_interval}
        assert once(calls) == len(expected)
        assert len(calls) == -(-len(expected) // ROWS)
        rows = split_of(one).table.rows
        assert set(rows) == expected
        for (t, label), row in rows.items():
            np.testing.assert_allclose(row, exact_row(int(t), label), rtol=1e-6)
        draw(bundle, one, replace(GUIDED, labels="5", seed=9), [0])
        assert len(calls) == -(-len(expected) // ROWS)  # nothing is left to compute for the next batch


def test_without_labels_there_is_a_row_a_time(
    make_bundle: MakeBundle, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = add_split(make_bundle())
    with opened(own, backend) as one:
        calls = counted(one, monkeypatch)
        draw(own, one, SamplingSettings("ddim", {}, STEPS), [0, 1])
        assert (once(calls), len(calls)) == (STEPS, -(-STEPS // ROWS))


@pytest.mark.parametrize("num_rows", [0, 1, 3, 5, 8])
def test_a_table_keeps_to_its_size(
    bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch, num_rows: int
) -> None:
    """A step needs 3 rows, of the labels 0 and 1 and of no class; a smaller table holds those of one step."""
    settings = replace(GUIDED, interval=None)
    expected = drawn(bundle, backend, SPLIT, settings, [0, 1])
    monkeypatch.setattr(opening_split, "TABLE_BYTES", num_rows * 2 * 4)
    with opened(bundle, backend) as one:
        calls, sizes, table = counted(one, monkeypatch), [], split_of(one).table
        fill = table.fill
        monkeypatch.setattr(table, "fill", lambda *arrays: [fill(*arrays), sizes.append(len(table.rows))])
        assert np.array_equal(draw(bundle, one, settings, [0, 1]), expected)
    assert once(calls) == 3 * STEPS
    assert max(sizes) == max(3, num_rows // 3 * 3)


def test_a_single_call_needs_no_plan(bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = np.ones((3, 3, 8, 8), np.float32), np.array([4, 2, 4])
    with opened(bundle, backend) as one:
        calls = counted(one, monkeypatch)
        got = one.call(x, 50.0, labels).copy()
        assert (once(calls), len(calls)) == (2, 1)
        for image, label in zip(got, labels, strict=True):
            slope, shift = exact_row(50, label)
            np.testing.assert_allclose(image, slope * (1 - shift), rtol=1e-5)
        assert np.array_equal(one.call(x, 50.0, labels), got)
        assert len(calls) == 1


# ---- opening and closing --------------------------------------------------------------------------------


def test_it_is_preferred_to_one_graph(bundle: Bundle, backend: str) -> None:
    found = [one.name for one in candidates(bundle, [backend]) if one.arithmetic == "fp32"]
    assert found == [f"{backend} {SPLIT}", f"{backend} {UNSPLIT}"]
    with open_candidate(bundle, choose(bundle, backend)) as one:
        assert isinstance(one.backend, Split)


def test_it_says_how_its_denoiser_computes(bundle: Bundle) -> None:
    made = replace(next(one for one in bundle.manifest.artifacts if one.id == SPLIT), precision="fp16")
    narrow = replace(bundle, manifest=replace(bundle.manifest, artifacts=(made,)))
    with opened(narrow, "ort", "onnx-fp16-split") as one:
        assert one.describe() == "ONNX Runtime on CPU in fp16, computed in fp32 with the weights rounded to fp16"


def test_a_later_call_does_not_compute_the_rows_of_the_walk_before(
    bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(bundle, backend) as one:
        draw(bundle, one, GUIDED, [0])
        split_of(one).forget()
        calls = counted(one, monkeypatch)
        x = np.zeros((1, *bundle.manifest.data.shape), np.float32)
        one.call(x, 50.0, np.array([1]))
    assert [{*call} for call in calls] == [{(50.0, 1)}]


def test_a_closed_one_is_refused(bundle: Bundle, backend: str) -> None:
    one = opened(bundle, backend)
    one.call(np.zeros((1, 3, 8, 8), np.float32), 5.0, np.array([0]))
    both = (split_of(one).denoiser, split_of(one).table.conditioning)
    freed = {"ort": "network", "openvino": "own"}[backend]
    assert all(hasattr(stage, freed) for stage in both)
    one.close()
    one.close()
    assert not any(hasattr(stage, freed) for stage in both)
    with pytest.raises(ConfigError, match="was closed, expected an open session"):
        one.describe()


def test_the_runtime_refuses_its_own_options(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="--device or --unit got 'gpu', ONNX Runtime has cpu, cuda"):
        opened(bundle, "ort", device="gpu")
    with opened(bundle, "openvino", hint="throughput", threads=1) as one:
        assert one.backend.options == RuntimeOptions(threads=1, hint="throughput")


def test_graphs_of_another_width_are_refused(make_bundle: MakeBundle, backend: str) -> None:
    own = add_split(make_bundle(), width=5)
    unsplit, split = own.manifest.artifacts
    assert split.conditioning is not None
    other = replace(split, conditioning=replace(split.conditioning, width=4))
    own = replace(own, manifest=replace(own.manifest, artifacts=(unsplit, other)))
    with pytest.raises(BundleError, match=r"is not the manifest's network: 'c' got float32 .*5\), expected"):
        opened(own, backend)
