"""`dbench coreml` on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbench.core import record
from dbench.suites import coreml

TINY = ("--set", "model.dim=8", "--set", "model.dim_mults=[1,2]", "--repeats", 2)


@pytest.mark.slow
def test_the_command(dbench: Callable[..., Any]) -> None:
    done = dbench(
        "coreml", "digits-unet", *TINY, "--unit", "gpu", "--precision", "fp16", "--steps", 2, "--out", "results"
    )
    assert done.code == 0, done.err
    (path,) = Path("results").glob("coreml-digits-unet-*.json")
    written = json.loads(path.read_text())
    rows = {row["name"]: row["value"] for row in written["rows"]}
    said = ("size", "export", "memory", "call", "trajectory", "executor", "executor memory")
    assert rows.keys() == {f"fp16-gpu, {what}" for what in said}
    assert 0.01 < rows["fp16-gpu, size"] < 1
    assert rows["fp16-gpu, call"] > 45
    assert rows["fp16-gpu, trajectory"] > 40
    assert rows["fp16-gpu, executor"] > 0
    assert 0 <= rows["fp16-gpu, executor memory"] < 500
    assert written["settings"]["packages"] == ["fp16-gpu"]
    assert "coremltools" in written["machine"]["versions"]
    result = record.read(path)
    assert "the final images of 2 steps" in coreml.summary(result)
    assert "| `fp16-gpu` | " in coreml.summary(result)
    assert "Core ML packages" in coreml.section(result)
    assert "executor MB" in coreml.digest([("unet", result)])
    assert "| `unet` | `fp16-gpu` | " in coreml.digest([("unet", result)])


def test_figures_beside_other_work_are_marked() -> None:
    """Seconds are; sizes and dB are not."""
    published = Path(__file__).parents[4] / "benchmarks" / "results" / "cpu-2-cores" / "sit-xl-2"
    result = record.read(next(published.glob("coreml-*.json")))
    busy, quiet = (replace(result, machine=replace(result.machine, other_processors=one)) for one in (1.0, 0.0))
    assert coreml.summary(busy).count(f" {record.MARK} |") == len(result.settings["packages"])
    assert f" {record.MARK} |" not in coreml.summary(quiet)


@pytest.mark.slow
def test_packages_alone(dbench: Callable[..., Any]) -> None:
    done = dbench(
        "coreml", "digits-unet", *TINY, "--unit", "gpu", "--precision", "fp32", "--steps", 0, "--out", "results"
    )
    assert done.code == 0, done.err
    (path,) = Path("results").glob("coreml-digits-unet-*.json")
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == [
        "fp32-gpu, size", "fp32-gpu, export", "fp32-gpu, memory",
    ]  # fmt: skip
    assert "dB" not in coreml.summary(record.read(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--unit", "tpu"), "--unit got 'tpu', expected one of gpu, ane"),
        (("--precision", "bf16"), "--precision got 'bf16', expected one of fp16, fp32, palette8"),
    ],
)
def test_wrong_words(dbench: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    done = dbench("coreml", "digits-unet", *words)
    assert done.code == 1
    assert message in done.err
