"""Does a target compute what eager PyTorch computed? The answer is measured on the bundle's golden file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend
from drun.bundle.manifest import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BundleError, NotFiniteError
from drun.foreign import read_npz
from drun.run.decoder import Decoder
from drun.run.denoiser import Denoiser
from drun.run.sampling import Sampling, Settings


@dataclass(frozen=True)
class Comparison:
    """Errors of `count` numbers against their reference. NaN anywhere, or nothing compared, has failed."""

    name: str
    count: int
    max_abs: float
    p99_abs: float
    mean_abs: float
    relative_l2: float  # also the smallest tolerance that would pass
    psnr_db: float      # peak: the reference's range
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.count > 0 and self.relative_l2 <= self.tolerance


def compare(name: str, reference: NDArray[Any], got: NDArray[Any], tolerance: float) -> Comparison:
    """Compare two arrays of one shape in float64; a different shape compares nothing.

    Args:
        tolerance: largest relative L2 error, ||got - reference|| / ||reference||, that passes.
    """
    if reference.shape != got.shape or reference.size == 0:
        nan = float("nan")
        return Comparison(name, 0, nan, nan, nan, nan, nan, tolerance)
    with np.errstate(invalid="ignore", divide="ignore"):
        reference, error = reference.astype(np.float64), np.abs(got.astype(np.float64) - reference)
        norm, rms = float(np.linalg.norm(reference)), float(np.sqrt(np.mean(error**2)))
        return Comparison(
            name,
            count=reference.size,
            max_abs=float(error.max()),
            p99_abs=float(np.quantile(error, 0.99)),
            mean_abs=float(error.mean()),
            relative_l2=float(np.float64(np.linalg.norm(error)) / norm),
            psnr_db=float(20 * np.log10(np.float64(np.ptp(reference)) / rms)),
            tolerance=tolerance,
        )


def check(bundle: Bundle, backend: Backend, artifact: Artifact, report: Report) -> list[Comparison]:
    """Run the golden file on a backend: every single call, every same-noise trajectory, and last the decoder.

    Raises:
        BundleError: the golden file is damaged or compares nothing of a network. DataError: it is no .npz.
    """
    golden = read_npz(bundle.file(bundle.manifest.golden))
    spec = json.loads(str(golden.get("spec", "{}")))
    calls, trajectories = spec.get("calls", []), spec.get("trajectories", [])
    if not calls or not trajectories:
        raise BundleError(f"the golden file of '{bundle.path}' compares nothing: export again")
    decoded = spec.get("decoded", 0)
    if (decoded > 0) != (bundle.manifest.decoder is not None):
        raise BundleError(f"of the manifest and the golden file of '{bundle.path}' one has no decoder: export again")
    denoiser = Denoiser(backend, bundle, artifact.batch)
    results, total = [], len(calls) + len(trajectories) + bool(decoded)
    for i in range(len(calls)):
        results.append(_check_call(golden, i, denoiser, artifact.tolerance))
        report("proving parity", len(results), total)
    for i, settings in enumerate(trajectories):
        sampling = Sampling(bundle, backend, Settings(**settings["settings"]), artifact.batch)
        results.append(_check_trajectory(golden, i, settings["indices"], sampling, artifact.tolerance))
        report("proving parity", len(results), total)
    if decoded:
        results.append(_check_decoder(golden, bundle))
        report("proving parity", len(results), total)
    return results


def _check_decoder(golden: dict[str, Any], bundle: Bundle) -> Comparison:
    z, image = golden["decoder.z"], golden["decoder.image"]
    assert bundle.manifest.decoder is not None
    tolerance = bundle.manifest.decoder.artifacts[0].tolerance.call
    return compare(f"decoder, batch {len(z)}", image, Decoder(bundle)(z), tolerance)


def _check_call(golden: dict[str, Any], i: int, denoiser: Denoiser, tolerance: Tolerance) -> Comparison:
    x, t, out = (golden[f"call{i}.{name}"] for name in ("x", "t", "out"))
    y = golden.get(f"call{i}.y")
    name = f"call, batch {len(x)}, t = {float(t):g}"
    return compare(name, out, denoiser(x, float(t), y), tolerance.call)


def _check_trajectory(
    golden: dict[str, Any], i: int, indices: list[int], sampling: Sampling, tolerance: Tolerance
) -> Comparison:
    settings, reference = sampling.settings, golden[f"trajectory{i}.out"]
    name = f"{settings.num_steps}-step {settings.sampler} trajectory, batch {len(indices)}"
    try:
        final = sampling.draw(indices, lambda row, x: None)
    except NotFiniteError:
        final = np.full_like(reference, np.nan)
    return compare(name, reference, final, tolerance.trajectory)


def worst(results: list[Comparison]) -> Comparison:
    """The one furthest beyond its own tolerance; NaN is further than anything."""
    excess = [result.relative_l2 / result.tolerance for result in results]
    return results[int(np.argmax(np.nan_to_num(excess, nan=math.inf)))]


def summary(results: list[Comparison]) -> dict[str, Any]:
    """The worst of each kind, for the manifest and run records."""
    # JSON knows no infinity, which is the PSNR of equal arrays.
    numbers = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(worst(results)).items()
    }
    return {"checks": len(results), "passed": all(result.passed for result in results), "worst": numbers}
