"""The loss of a quantised graph, against the same images drawn by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dexport.writer.loss import NUM_IMAGES, SEED, loss_of
from drun.bundle import reading as bundles
from drun.console import silent
from drun.run.opening import Candidate, choose, open_candidate
from drun.run.session import Session

pytestmark = pytest.mark.usefixtures("few_states")


@pytest.mark.slow
def test_it_is_the_psnr_of_all_final_images(int8_bundle: Path) -> None:
    bundle = bundles.read(int8_bundle)
    drawn = []
    for precision in ("fp32", "int8"):
        with Session(bundle, open_candidate(bundle, choose(bundle, "openvino", precision))) as session:
            drawn.append(session.sample(NUM_IMAGES, batch=8, seed=SEED, steps=8, output="float").astype(np.float64))
            if precision == "int8":
                loss = loss_of(bundle, session.opened, silent)
    exact, lossy = drawn
    expected = 10 * np.log10((exact.max() - exact.min()) ** 2 / np.mean((exact - lossy) ** 2))
    assert loss["psnr_db"] == pytest.approx(expected, abs=1e-3)
    farthest = np.mean((exact - lossy) ** 2, axis=(1, 2, 3)).max()
    assert loss["worst_db"] == pytest.approx(10 * np.log10((exact.max() - exact.min()) ** 2 / farthest), abs=1e-3)
    assert (loss["images"], loss["steps"], loss["sampler"]) == (NUM_IMAGES, 8, bundle.manifest.sampler.name)


@pytest.mark.slow
def test_an_equal_graph_loses_nothing(int8_bundle: Path) -> None:
    """JSON knows no infinity."""
    bundle = bundles.read(int8_bundle)
    quantised = bundle.manifest.artifacts[-1]
    ends = quantised.target | {"fp32_times": [[0, 999]]}
    object.__setattr__(quantised, "target", ends)
    with open_candidate(bundle, Candidate("openvino", quantised, "int8")) as opened:
        assert loss_of(bundle, opened, silent)["psnr_db"] is None
