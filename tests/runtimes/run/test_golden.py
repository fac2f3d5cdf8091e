"""A golden file of anything is read or refused; what test_parity.py names is refused in that sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from openings import on_null

from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.console import silent
from drun.errors import UserError
from drun.files import sha256
from drun.foreign import read_npz
from drun.run.golden import read_golden
from drun.run.parity import check

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([10**9, 10**30, "ddim", "ddpm", "float64"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)  # fmt: skip
ARRAYS = st.sampled_from([
    np.zeros(0), np.zeros((1, 3, 8, 8), np.float32), np.array(3.0), np.array("x"), np.array(1, np.float32),
    np.full((3, 3, 8, 8), np.nan, np.float32), np.zeros((3, 3, 8, 8), np.float32), np.arange(3), np.zeros(3, complex),
])  # fmt: skip


def test_what_is_right(pristine_bundle: Path) -> None:
    golden = read_golden(bundles.read(pristine_bundle))
    assert len(golden.calls) == 3
    assert golden.calls[1].x.shape == (3, 3, 8, 8)
    assert golden.trajectories[0].indices == (0, 5, 3)
    assert golden.decoded is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_anything_is_read_or_refused(pristine_bundle: Path, data: st.DataObject) -> None:
    bundle = bundles.read(pristine_bundle)
    arrays: dict[str, Any] = dict(read_npz(pristine_bundle / "golden.npz"))
    spec = json.loads(str(arrays["spec"]))
    run = spec["trajectories"][0]
    container = data.draw(st.sampled_from([spec, run, run["settings"], run["settings"]["options"], arrays]))
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(container)) | st.sampled_from(["x", "call9.x", "decoder.z"]))
        container[name] = data.draw(ARRAYS if container is arrays else ANYTHING)
    path = pristine_bundle / "other.npz"
    if container is not arrays:
        arrays["spec"] = np.array(json.dumps(spec))
    np.savez(path, allow_pickle=False, **{name: array for name, array in arrays.items() if name.isascii()})
    entry = FileEntry(path.name, sha256(path))
    changed = replace(bundle, manifest=replace(bundle.manifest, golden=entry))
    with suppress(UserError):
        check(changed, on_null(bundle), silent)
