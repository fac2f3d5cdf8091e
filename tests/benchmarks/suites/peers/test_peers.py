"""Everything that is measured of a tiny transformer in float32."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest

from dbench.core.record import Result, ResultRow
from dbench.suites import peers
from dbench.suites.peers import Settings
from drun.console import silent
from drun.errors import ConfigError

pytestmark = pytest.mark.slow  # everyone's graphs are made first


THEIRS = ["diffusers, fp32", "plain OpenVINO, fp32", "plain ONNX Runtime"]
OURS = {"drun, ort onnx-fp32", "drun, ort onnx-fp32-split", "drun, openvino openvino-fp32"}


def calls(result: Result, batch: int) -> dict[str, ResultRow]:
    rows = (row for row in result.rows if "gflop_s" in row.details)
    return {row.details["name"]: row for row in rows if row.details["batch"] == batch}


@pytest.mark.parametrize("batch", [1, 2])
def test_everyone_is_timed_and_compared_with_the_best_peer(result: Result, batch: int) -> None:
    found = calls(result, batch)
    ours = {*found} - {*THEIRS}
    assert [*found][:3] == THEIRS
    assert ours >= OURS
    assert all(name.startswith("drun, ") and found[name].details["is_ours"] for name in ours)
    best = min(THEIRS, key=lambda name: median(found[name].details["latencies_ms"]))
    for name, row in found.items():
        low, high = row.details["interval_95"]
        assert 0 < low <= (row.value or 0) <= high
        ratio = result.row(f"{name}, times as fast as the best peer, batch {batch}")
        pairs = zip(found[best].details["latencies_ms"], row.details["latencies_ms"], strict=True)
        assert ratio.details["to"] == best
        assert ratio.value == pytest.approx(median([theirs / own for theirs, own in pairs]))
        assert result.row(f"{name}, share of the matrix rate, batch {batch}").value
    assert result.row(f"{best}, times as fast as the best peer, batch {batch}").value == 1
    answer = result.row(f"drun in fp32 to the best peer in fp32, batch {batch}")
    assert (answer.details["to"], answer.details["of"] in ours, answer.headline != "") == (best, True, True)


def test_work_grows_with_the_batch(result: Result) -> None:
    work = {
        batch: {row.details["gflop_s"] * (row.value or 0) for row in calls(result, batch).values()} for batch in (1, 2)
    }
    assert max(work[1]) == pytest.approx(min(work[1]))
    assert max(work[2]) == pytest.approx(min(work[2]))
    assert min(work[2]) == pytest.approx(2 * min(work[1]))


def test_every_speed_has_its_parity(result: Result) -> None:
    for name in calls(result, 1):
        row = result.row(f"{name}, relative L2 from eager PyTorch in fp32")
        assert (row.details["passed"], row.details["allowed"]) == (True, 1e-5)
        assert 0 <= (row.value or 0) < 1e-5


def test_the_image_of_drun_is_that_of_the_plain_loop(result: Result) -> None:
    row = result.row("drun in fp32 to a plain loop, an image of 3 guided steps")
    assert row.details["relative_l2"] < 1e-5
    assert (row.details["of"].startswith("drun, "), row.details["to"]) == (True, "plain OpenVINO, fp32")
    assert len(result.row("plain OpenVINO, fp32, an image of 3 guided steps").details["seconds"]) == 6


def test_each_backend_starts_from_nothing(result: Result) -> None:
    names = {row.name for row in result.rows if "cold start" in row.name}
    assert {name.split()[1] for name in names} == {"ort", "openvino"}


def test_the_result_says_what_it_is_of(result: Result) -> None:
    assert result.subject["weights"] == "random"
    assert result.settings["batches"] == (1, 2)
    assert not {"model", "bundle"} & {*result.settings}
    assert result.machine.num_threads == 1


def test_a_batch_that_nothing_takes_is_refused_before_anything_is_timed(of_sit: Settings) -> None:
    """The first batch could be timed."""
    said: list[str] = []
    settings = replace(of_sit, peers=("ort",), batches=(1, 65), steps=0)
    with pytest.raises(ConfigError, match=r"--batch got 65, onnx-fp32(-split)? takes 1 to 64"):
        peers.measure(settings, lambda what, *_: said.append(what))
    assert not any("timing" in what for what in said)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peers": ("tvm",)}, "--peer got 'tvm', expected one of diffusers, openvino, ort, pytorch"),
        ({"model": "absent.pt"}, "no such checkpoint: 'absent.pt'"),
    ],
)
def test_wrong_words(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        peers.measure(Settings(**{"model": "digits-sit"} | settings), silent)  # type: ignore[arg-type]
