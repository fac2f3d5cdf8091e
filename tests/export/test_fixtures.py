"""The golden file: calls of every label at both ends of time, and trajectories as the bundle itself draws."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformer_bundles import describe, golden_calls, golden_of

from dexport import fixtures
from dexport.proof import full_proof
from drun.bundle.card import Sampler
from drun.bundle.reading import Bundle
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.samplers import resolve
from drun.settings import SamplingSettings
from dtrain.published import Denoiser


def test_the_golden_calls_reach_every_kind_of_label_and_both_ends_of_time(
    sit_bundle: Bundle, dit_bundle: Bundle
) -> None:
    for bundle, ends in ((sit_bundle, (0.0, 0.98)), (dit_bundle, (999.0, 1.0))):
        arrays, spec = golden_of(bundle)
        labels = [arrays[f"call{i}.y"] for i in range(len(spec["calls"]))]
        assert {0, 9, 10} <= set(np.concatenate(labels).tolist())
        assert all(len(set(batch.tolist())) == 3 for batch in labels if len(batch) > 1)
        assert {batch.dtype for batch in labels} == {np.dtype(np.int64)}
        assert {len(batch) for batch in labels} == {1, 3}
        assert set(ends) <= set(spec["calls"])
        assert len(set(spec["calls"])) >= 6
        assert min(np.linalg.norm(arrays[f"call{i}.out"]) for i in range(len(labels))) > 0.1


def test_the_golden_file_is_eager_pytorchs(sit_bundle: Bundle, sit: Denoiser) -> None:
    """Bit for bit that of the trained network, not of its deployable copy."""
    arrays, _ = golden_of(sit_bundle)
    x, t, y = (torch.from_numpy(arrays[f"call3.{key}"]) for key in ("x", "t", "y"))
    with torch.no_grad():
        assert torch.equal(sit.network(x, t.expand(len(x)), y), torch.from_numpy(arrays["call3.out"]))


@pytest.mark.slow
def test_the_long_trajectory_is_the_bundles_own_and_guided(sit_bundle: Bundle, dit_bundle: Bundle) -> None:
    for bundle in (sit_bundle, dit_bundle):
        settings = [SamplingSettings(**each["settings"]) for each in golden_of(bundle)[1]["trajectories"]]
        own = bundle.manifest.sampler
        assert [each.sampler for each in settings] == ["ddim", own.name]
        assert [each.cfg for each in settings] == [1.0, 1.5]
        assert settings[1].num_steps == 4
        assert settings[1].options == resolve(own.name, own.options)


def test_times_keep_the_margin_of_a_process(build_small: Any, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=0)
    process = FlowProcess("linear", noise_time=0, margin=0.1)
    spec = json.loads(str(golden_calls(describe(network, process=process), tmp_path / "golden.npz")["spec"]))
    assert (min(spec["calls"]), max(spec["calls"])) == pytest.approx((0.1, 0.9))


def test_the_report_counts_every_call(sit: Denoiser, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    heun = replace(sit, card=replace(sit.card, sampler=Sampler("heun")))
    path = tmp_path / "golden.npz"
    fixtures.write_golden(path, heun, full_proof(3), lambda what, done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1]
    assert [done for done, _ in reports] == list(range(1, len(reports) + 1))
    assert len(reports) == 5 + 2 * 3 + 2 * 6  # SiT's Heun corrects every step
