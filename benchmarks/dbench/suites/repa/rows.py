"""The rows of the comparison; their details hold everything that the plots draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from dbench.core import timing
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Spread
from dbench.suites.repa.crossing import Curve, Speedup, final_ratios, speedup
from dbench.suites.repa.plan import DEPTHS, LABELS, PLAIN, REPA

SUITE = "repa"
DISTANCE_UNIT = "squared pixel values"
SPEEDUP = "plain / REPA, steps to the same distance"
REACHED = "seeds in which REPA reached the plain model's final distance"
FINAL = "plain / REPA, final distance"
HALVES = "one half of the real digits to the other"
TEACHER_PROBE = "teacher (trained with the labels), linear probe"
PIXELS_PROBE, PIXELS_ALIGNMENT = "pixels, linear probe", "pixels, CKNNA with the teacher"


@dataclass(frozen=True)
class Measurements:
    """The measurements, with one entry of each list for each seed."""

    seeds: tuple[int, ...]
    curves: Mapping[str, Sequence[Curve]]  # by arm
    blocks: Mapping[str, Sequence[dict[str, list[list[float]]]]]  # by arm, as `layers.blocks` gives
    references: Mapping[str, float]  # the result of `layers.references`
    halves: Spread  # two sets of real digits


def to_rows(found: Measurements) -> list[ResultRow]:
    return [
        *_steps_rows(found),
        *(_curve_row(arm, found) for arm in LABELS),
        spread_row(SUITE, HALVES, found.halves, DISTANCE_UNIT),
        *_seed_rows(found),
        *(_probe_row(arm, i, found) for i in range(len(DEPTHS)) for arm in LABELS),
        ResultRow(SUITE, TEACHER_PROBE, 100 * found.references["teacher_probe"], "%"),
        ResultRow(SUITE, PIXELS_PROBE, 100 * found.references["pixels_probe"], "%"),
        *(_alignment_row(arm, i, found) for i in range(len(DEPTHS)) for arm in LABELS),
        ResultRow(SUITE, PIXELS_ALIGNMENT, found.references["pixels_alignment"], ""),
    ]


def final_name(arm: str) -> str:
    return f"{LABELS[arm]}, final distance"


def probe_name(arm: str, depth: float) -> str:
    return f"{LABELS[arm]}, linear probe at t = {depth:g}, best block"


def alignment_name(arm: str, depth: float) -> str:
    return f"{LABELS[arm]}, CKNNA with the teacher at t = {depth:g}, best block"


# ---- steps ----------------------------------------------------------------------------------------------


def _steps_rows(found: Measurements) -> list[ResultRow]:
    gains = _speedups(found)
    ratio = timing.spread([gain.ratio for gain in gains])
    per_seed = [{"seed": seed, **asdict(gain)} for seed, gain in zip(found.seeds, gains, strict=True)]
    if ratio.median >= 1:
        headline = "fewer training steps with REPA to the plain model's final Fréchet distance"
    else:
        headline = "as fast as plain training: REPA needs more steps to the same Fréchet distance"
    return [
        spread_row(SUITE, SPEEDUP, ratio, "x", headline=headline, details={"per_seed": per_seed}),
        ResultRow(SUITE, REACHED, 100 * sum(gain.reached for gain in gains) / len(gains), "%"),
        spread_row(SUITE, FINAL, final_ratios(found.curves[PLAIN], found.curves[REPA]), "x"),
    ]


def _seed_rows(found: Measurements) -> list[ResultRow]:
    rows = []
    pairs = zip(found.curves[PLAIN], found.curves[REPA], strict=True)
    for seed, gain, (plain, repa) in zip(found.seeds, _speedups(found), pairs, strict=True):
        steps = gain.repa_steps if gain.reached else None
        rows += [
            ResultRow(SUITE, f"seed {seed}, {SPEEDUP}", gain.ratio, "x"),
            ResultRow(SUITE, f"seed {seed}, steps of REPA to the plain model's final distance", steps, "steps"),
            ResultRow(SUITE, f"seed {seed}, {FINAL}", plain.final / repa.final, "x"),
        ]
    return rows


def _speedups(found: Measurements) -> list[Speedup]:
    return [speedup(*pair) for pair in zip(found.curves[PLAIN], found.curves[REPA], strict=True)]


def _curve_row(arm: str, found: Measurements) -> ResultRow:
    curves = found.curves[arm]
    details = {
        "seeds": list(found.seeds),
        "steps": list(curves[0].steps),
        "distances": [list(curve.distances) for curve in curves],  # by seed
    }
    final = timing.spread([curve.final for curve in curves])
    return spread_row(SUITE, final_name(arm), final, DISTANCE_UNIT, details=details)


# ---- blocks ---------------------------------------------------------------------------------------------


def _probe_row(arm: str, depth_index: int, found: Measurements) -> ResultRow:
    by_seed = [[100 * share for share in each["probe"][depth_index]] for each in found.blocks[arm]]
    return _best_row(probe_name(arm, DEPTHS[depth_index]), by_seed, "%")


def _alignment_row(arm: str, depth_index: int, found: Measurements) -> ResultRow:
    by_seed = [each["alignment"][depth_index] for each in found.blocks[arm]]
    return _best_row(alignment_name(arm, DEPTHS[depth_index]), by_seed, "")


def _best_row(name: str, by_seed: list[list[float]], unit: str) -> ResultRow:
    best = timing.spread([max(blocks) for blocks in by_seed])
    return spread_row(SUITE, name, best, unit, details={"blocks": by_seed})  # [seed][block]
