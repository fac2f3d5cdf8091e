"""Measures on the bundle's golden file whether a target computes what eager PyTorch computed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.artifact import Parity, Tolerance
from drun.bundle.card import Card
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import NotFiniteError
from drun.run.decoder import DecoderSession
from drun.run.golden import Floats, GoldenCall, GoldenTrajectory, read_golden
from drun.run.opening import Opened
from drun.run.sampling import Sampling


@dataclass(frozen=True)
class Comparison:
    """The errors of `count` numbers against their reference.

    It has failed if a number is NaN, or if nothing was compared.
    """

    name: str
    count: int
    max_abs: float
    p99_abs: float
    mean_abs: float
    relative_l2: float  # also the smallest tolerance that would pass
    psnr_db: float  # peak: the reference's range
    tolerance: float
    least_db: float = 0.0

    @property
    def excess(self) -> float:
        """How many times its error is the largest that passes; NaN if a number is."""
        below = 10 ** ((self.least_db - self.psnr_db) / 20) if self.least_db else 0.0
        return float(np.maximum(self.relative_l2 / self.tolerance, below))

    @property
    def passed(self) -> bool:
        return self.count > 0 and self.excess <= 1

    @property
    def allowed(self) -> str:
        """The bound in words."""
        return f"{self.least_db:g} dB" if self.least_db else f"{self.tolerance:.0e}"


def compare(
    name: str, reference: NDArray[Any], got: NDArray[Any], tolerance: float, least_db: float = 0.0
) -> Comparison:
    """Compare two arrays of one shape in float64; a different shape compares nothing.

    Args:
        tolerance: largest relative L2 error, ||got - reference|| / ||reference||, that passes.
        least_db: least PSNR that passes.
    """
    if reference.shape != got.shape or reference.size == 0:
        nan = float("nan")
        return Comparison(name, 0, nan, nan, nan, nan, nan, tolerance, least_db)
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
            least_db=least_db,
        )


def check(bundle: Bundle, opened: Opened, report: Report) -> list[Comparison]:
    """Run the golden file on a backend: every single call, every same-noise trajectory, and last the decoder.

    Raises:
        BundleError: the golden file is damaged or compares nothing of a network. DataError: it is not an .npz file.
        BackendUnavailable: nothing opens the decoder.
    """
    golden, tolerance = read_golden(bundle), opened.tolerance()
    checks = [partial(_check_call, call, opened, tolerance) for call in golden.calls]
    checks += [partial(_check_trajectory, run, bundle.manifest.card, opened, tolerance) for run in golden.trajectories]
    if golden.decoded:
        checks.append(partial(_check_decoder, *golden.decoded, bundle, opened))
    results = []
    for checked in checks:
        results.append(checked())
        report("proving parity", len(results), len(checks))
    return results


def _check_decoder(z: Floats, image: Floats, bundle: Bundle, opened: Opened) -> Comparison:
    with DecoderSession(bundle, opened) as decode:
        tolerance = decode.opened.tolerance(is_decoder=True)
        return compare(f"decoder, batch {len(z)}", image, decode(z), tolerance.call, tolerance.least_db)


def _check_call(call: GoldenCall, opened: Opened, tolerance: Tolerance) -> Comparison:
    name = f"call, batch {len(call.x)}, t = {call.t:g}"
    return compare(name, call.out, opened.call(call.x, call.t, call.labels), tolerance.call, tolerance.least_db)


def _check_trajectory(trajectory: GoldenTrajectory, card: Card, opened: Opened, tolerance: Tolerance) -> Comparison:
    settings, indices, reference = trajectory.settings, trajectory.indices, trajectory.out
    name = f"{settings.num_steps}-step {settings.sampler} trajectory, batch {len(indices)}"
    try:
        final = Sampling(card, opened, settings).draw(indices)
    except NotFiniteError:
        final = np.full_like(reference, np.nan)
    return compare(name, reference, final, tolerance.trajectory)


def worst(results: list[Comparison]) -> Comparison:
    """The comparison furthest beyond its own tolerance; NaN is further than any number."""
    return results[int(np.argmax(np.nan_to_num([result.excess for result in results], nan=math.inf)))]


def summary(results: list[Comparison], backend: str, quick: bool = False, steps: int = 0) -> Parity:
    """The number of checks and the worst one, for the manifest.

    Args:
        backend: the backend that they ran on, in words.
        quick: whether the export was a quick one, whose golden file holds less.
        steps: of the golden file's trajectory with the bundle's own sampler.
    """
    # JSON knows no infinity, which is the PSNR of equal arrays.
    numbers = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(worst(results)).items()
    }
    passed = all(result.passed for result in results)
    return Parity(checks=len(results), passed=passed, worst=numbers, quick=quick, backend=backend, steps=steps)
