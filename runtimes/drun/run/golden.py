"""Reads the golden file: inputs, eager outputs and same-noise trajectories, all of them checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.reading import Bundle
from drun.errors import BundleError, door
from drun.foreign import parse_json, read_npz
from drun.settings import SamplingSettings
from drun.typed import typed

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GoldenCall:
    """One network call: x (N, C, H, W), out (N, C or 2 C, H, W), labels (N,) int64 or None."""

    x: Floats
    t: float
    labels: NDArray[np.int64] | None
    out: Floats


@dataclass(frozen=True)
class GoldenTrajectory:
    """The final states (N, C, H, W) of the samples `indices`."""

    settings: SamplingSettings
    indices: tuple[int, ...]
    out: Floats


@dataclass(frozen=True)
class Golden:
    calls: tuple[GoldenCall, ...]
    trajectories: tuple[GoldenTrajectory, ...]
    decoded: tuple[Floats, Floats] | None  # latents (N, C, h, w) and their images (N, 3, H, W)


@dataclass(frozen=True)
class _Run:
    settings: SamplingSettings
    indices: tuple[int, ...]


@dataclass(frozen=True)
class _Spec:
    calls: tuple[float, ...]
    trajectories: tuple[_Run, ...]
    decoded: int = 0


def read_golden(bundle: Bundle) -> Golden:
    """The golden file of a bundle.

    Raises:
        BundleError: it is damaged, does not fit the manifest, or compares nothing of a network. DataError: it is no
        .npz of arrays.
    """
    with bundle.using(bundle.manifest.golden) as (path,):
        arrays = read_npz(path)
    with door(f"the golden file of '{bundle.path}' is wrong", BundleError, "export again"):
        spec: _Spec = typed(_Spec, parse_json(str(arrays["spec"])), "spec")
        if spec.decoded < 0:
            raise ValueError(f"spec.decoded got {spec.decoded}, expected 0 or more")
        if not spec.calls or not spec.trajectories:
            raise BundleError(f"the golden file of '{bundle.path}' compares nothing: export again")
        if (spec.decoded > 0) != (bundle.manifest.decoder is not None):
            raise BundleError(
                f"of the manifest and the golden file of '{bundle.path}' one has no decoder: export again"
            )
        return Golden(
            tuple(_call(bundle, arrays, i) for i in range(len(spec.calls))),
            tuple(_trajectory(bundle, arrays, i, run) for i, run in enumerate(spec.trajectories)),
            _decoded(bundle, arrays) if spec.decoded else None,
        )


def _call(bundle: Bundle, arrays: dict[str, NDArray[Any]], i: int) -> GoldenCall:
    manifest, count = bundle.manifest, len(arrays[f"call{i}.x"])
    time = float(_array(arrays, f"call{i}.t", np.float32, ()))
    labels = None
    if manifest.classes is not None:
        labels = _array(arrays, f"call{i}.y", np.int64, (count,))
        if labels.min() < 0 or labels.max() > manifest.classes.count:
            raise ValueError(f"call{i}.y has labels from {labels.min()} to {labels.max()}")
    x = _array(arrays, f"call{i}.x", np.float32, (count, *manifest.data.shape))
    return GoldenCall(x, time, labels, _array(arrays, f"call{i}.out", np.float32, (count, *manifest.card.output_shape)))


def _trajectory(bundle: Bundle, arrays: dict[str, NDArray[Any]], i: int, run: _Run) -> GoldenTrajectory:
    shape = (len(run.indices), *bundle.manifest.data.shape)
    if not run.indices or min(run.indices) < 0:
        raise ValueError(f"trajectory {i} has the indices {run.indices}")
    return GoldenTrajectory(run.settings, run.indices, _array(arrays, f"trajectory{i}.out", np.float32, shape))


def _decoded(bundle: Bundle, arrays: dict[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    assert bundle.manifest.decoder is not None
    count = len(arrays["decoder.z"])
    z = _array(arrays, "decoder.z", np.float32, (count, *bundle.manifest.data.shape))
    return z, _array(arrays, "decoder.image", np.float32, (count, *bundle.manifest.decoder.shape))


def _array(arrays: dict[str, NDArray[Any]], name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    array = arrays[name]
    if not array.size:
        raise ValueError(f"{name} is empty")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} got {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array
