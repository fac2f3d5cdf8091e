"""A sampler costs one file: it is listed, takes its options, draws, and changes nothing that existed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from copied import CopiedPackages, files_to_add

#: Deterministic DDIM (Song et al. 2021, eq. 12), written anew: x' = alpha' x0 + sigma' (x - alpha x0) / sigma.
SAMPLER = '''
"""Straight to the next time."""

from drun.diffusion.grids import times
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process, num_steps, *, grid="auto", shrink=1.0):
    """One network call a step.

    shrink: what the clean image is multiplied by.
    """
    visited = times(process, num_steps, grid)
    ends = [(float(process.alpha(t)), float(process.sigma(t))) for t in visited] + [(1.0, 0.0)]
    table = []
    for t, (alpha, sigma), (alpha_next, sigma_next) in zip(visited, ends, ends[1:]):
        ratio = sigma_next / sigma
        table.append(Step(t, a=ratio, b=(alpha_next - ratio * alpha) * shrink))
    return table
'''


def test_a_sampler_file_is_all(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    packages = CopiedPackages(tmp_path / "copied")
    bundle = make_bundle(conditional=True)
    drawn = ["drun", "--bundle", str(bundle), "--steps", "6", "-n", "3", "--seed", "4", "--cfg", "2", "--save-raw"]
    packages.run([*drawn, "--sampler", "ddim", "--set", "clip_x0=false", "--out", "before"])
    packages.add("runtimes/drun/diffusion/samplers/straight.py", SAMPLER)
    assert len(packages.added) == files_to_add("A sampler")
    said = packages.run(
        ["drun", "samplers"],
        [*drawn, "--sampler", "ddim", "--set", "clip_x0=false", "--out", "after"],
        [*drawn, "--sampler", "straight", "--out", "own"],
        [*drawn, "--sampler", "straight", "--set", "shrink=0.5", "--out", "shrunk"],
        ["drun", "check", str(bundle)],
    )
    assert "straight       Straight to the next time.\n" in said
    assert "grid=auto shrink=1.0" in said
    before, after, own, shrunk = (
        np.load(packages.folder / name / "raw.npz")["x"] for name in ("before", "after", "own", "shrunk")
    )
    assert before.tobytes() == after.tobytes()
    np.testing.assert_allclose(own, after, rtol=1e-4, atol=1e-5)
    assert np.abs(shrunk - own).max() > 0.1
