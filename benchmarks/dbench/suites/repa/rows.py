"""The rows of the comparison; their details hold everything that the plots draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from dbench.core import timing
from dbench.core.record import Result, ResultRow, spread_row
from dbench.suites.repa.costs import Costs
from dbench.suites.repa.crossing import Curve, Speedup, final_ratios, speedup
from dbench.suites.repa.eyes import Eyes
from dbench.suites.repa.plan import DEPTHS, LABELS, PLAIN, REPA, label

SUITE = "repa"
#: Of the steps of a run: where the plain model's distance is what the others have to reach.
TARGETS = (0.25, 0.5, 0.75, 1.0)
#: The target of the headline: half of the budget.
HALF = 0.5
DISTANCE_UNIT = "squared units"
TEACHER_PROBE = "teacher, linear probe"
PIXELS_PROBE, PIXELS_ALIGNMENT = "pixels, linear probe", "pixels, CKNNA with the teacher"
STEP_COST, ENDED_COST = "a step, aligned / plain", "a step after the alignment has ended / plain"

Blocks = Mapping[str, list[list[float]]]


@dataclass(frozen=True)
class Measurements:
    """The measurements, with one entry of each list for each seed."""

    seeds: tuple[int, ...]
    eyes: Sequence[Eyes]  # the most telling first
    curves: Mapping[str, Mapping[str, Sequence[Curve]]]  # by kind of eyes and arm
    blocks: Mapping[str, Sequence[Blocks]]  # by arm, as `layers.blocks` gives
    references: Mapping[str, float | None]  # the result of `layers.references`
    costs: Costs

    @property
    def steps(self) -> tuple[int, ...]:
        """Of the evaluated checkpoints."""
        return self.curves[self.eyes[0].kind][PLAIN][0].steps

    @property
    def aligned(self) -> list[str]:
        """All arms but the plain one."""
        return [arm for arm in self.curves[self.eyes[0].kind] if arm != PLAIN]


def to_rows(found: Measurements) -> list[ResultRow]:
    rows = [row for eyes in found.eyes for row in _distance_rows(eyes, found)]
    rows += [
        spread_row(SUITE, STEP_COST, found.costs.ratio, "x", details=asdict(found.costs)),
        spread_row(SUITE, ENDED_COST, found.costs.ended_ratio, "x"),
    ]
    for i in range(len(DEPTHS)):
        rows += [row for arm in LABELS for row in _probe_rows(arm, i, found)]
    for name, key in ((TEACHER_PROBE, "teacher_probe"), (PIXELS_PROBE, "pixels_probe")):
        share = found.references[key]
        rows += [] if share is None else [ResultRow(SUITE, name, 100 * share, "%")]
    rows += [_alignment_row(arm, i, found) for i in range(len(DEPTHS)) for arm in LABELS]
    return [*rows, ResultRow(SUITE, PIXELS_ALIGNMENT, found.references["pixels_alignment"], "")]


def target_steps(steps: Sequence[int]) -> list[int]:
    """The evaluated steps that lie nearest to TARGETS of a run, each once, rising.

    The first checkpoint is none: nobody is known to have been as good before it.
    """
    wanted = [share * steps[-1] for share in TARGETS]
    return sorted({min(steps[1:], key=lambda step: (abs(step - each), -step)) for each in wanted})


def half_of(steps: Sequence[int]) -> int:
    """The target of the headline."""
    return min(target_steps(steps), key=lambda step: (abs(step - HALF * steps[-1]), -step))


def gains(result: Result, kind: str, arm: str, at: int) -> list[dict[str, float]]:
    """Of each seed its `Speedup` as plain values."""
    return list(result.row(steps_name(kind, arm, at)).details["per_seed"])


def floor_name(kind: str) -> str:
    return f"{kind}: real images to real images"


def final_name(kind: str, arm: str) -> str:
    return f"{kind}: {label(arm)}, final distance"


def steps_name(kind: str, arm: str, at: int) -> str:
    return f"{kind}: plain / {label(arm)}, steps to the plain model's distance of step {at}"


def seconds_name(kind: str, arm: str, at: int) -> str:
    return f"{kind}: plain / {label(arm)}, seconds to the plain model's distance of step {at}"


def ratio_name(kind: str, arm: str) -> str:
    return f"{kind}: plain / {label(arm)}, final distance"


def probe_name(arm: str, depth: float) -> str:
    return f"{label(arm)}, linear probe at t = {depth:g}, best block"


def alignment_name(arm: str, depth: float) -> str:
    return f"{label(arm)}, CKNNA with the teacher at t = {depth:g}, best block"


# ---- distances ------------------------------------------------------------------------------------------


def _distance_rows(eyes: Eyes, found: Measurements) -> list[ResultRow]:
    kind, curves = eyes.kind, found.curves[eyes.kind]
    rows = [
        row for arm in found.aligned for at in target_steps(found.steps) for row in _target_rows(eyes, arm, at, found)
    ]
    for arm in found.aligned:
        rows.append(spread_row(SUITE, ratio_name(kind, arm), final_ratios(curves[PLAIN], curves[arm]), "x"))
    rows += [_curve_row(eyes, arm, found) for arm in (PLAIN, *found.aligned)]
    details = {"name": eyes.name, "fingerprint": eyes.fingerprint, "num_reference": len(eyes.reference)}
    return [*rows, spread_row(SUITE, floor_name(kind), timing.spread(eyes.floor), DISTANCE_UNIT, details=details)]


def _target_rows(eyes: Eyes, arm: str, at: int, found: Measurements) -> list[ResultRow]:
    """How many times fewer steps over the seeds and, where its steps are timed, how many times less time."""
    curves, costs = found.curves[eyes.kind], found.costs
    gains = [speedup(plain, own, at) for plain, own in zip(curves[PLAIN], curves[arm], strict=True)]
    per_seed = [{"seed": seed, **asdict(gain)} for seed, gain in zip(found.seeds, gains, strict=True)]
    is_headline = eyes is found.eyes[0] and arm == REPA and at == half_of(found.steps)
    headline = _headline(gains) if is_headline else ""
    ratios = timing.spread([gain.ratio for gain in gains])
    details = {"per_seed": per_seed}
    rows = [spread_row(SUITE, steps_name(eyes.kind, arm, at), ratios, "x", headline=headline, details=details)]
    if arm in LABELS:
        seconds = [costs.seconds(PLAIN, gain.plain_steps) / costs.seconds(arm, gain.aligned_steps) for gain in gains]
        shown = {"per_seed": [{"seed": seed, "ratio": one} for seed, one in zip(found.seeds, seconds, strict=True)]}
        rows.append(spread_row(SUITE, seconds_name(eyes.kind, arm, at), timing.spread(seconds), "x", details=shown))
    return rows


def _headline(gains: Sequence[Speedup]) -> str:
    if timing.spread([gain.ratio for gain in gains]).median >= 1:
        return "fewer training steps with REPA to the plain model's Fréchet distance at half of the budget"
    return "as fast as plain training at half of the budget: REPA needs more steps to the same Fréchet distance"


def _curve_row(eyes: Eyes, arm: str, found: Measurements) -> ResultRow:
    curves = found.curves[eyes.kind][arm]
    details = {
        "seeds": list(found.seeds),
        "steps": list(curves[0].steps),
        "seconds": [found.costs.seconds(arm, step) for step in curves[0].steps] if arm in LABELS else None,
        "distances": [list(curve.distances) for curve in curves],  # by seed
    }
    final = timing.spread([curve.final for curve in curves])
    return spread_row(SUITE, final_name(eyes.kind, arm), final, DISTANCE_UNIT, details=details)


# ---- blocks ---------------------------------------------------------------------------------------------


def _probe_rows(arm: str, depth_index: int, found: Measurements) -> list[ResultRow]:
    """None where nobody says what the images show."""
    if not all(each["probe"] for each in found.blocks[arm]):
        return []
    by_seed = [[100 * share for share in each["probe"][depth_index]] for each in found.blocks[arm]]
    return [_best_row(probe_name(arm, DEPTHS[depth_index]), by_seed, "%")]


def _alignment_row(arm: str, depth_index: int, found: Measurements) -> ResultRow:
    by_seed = [each["alignment"][depth_index] for each in found.blocks[arm]]
    return _best_row(alignment_name(arm, DEPTHS[depth_index]), by_seed, "")


def _best_row(name: str, by_seed: list[list[float]], unit: str) -> ResultRow:
    best = timing.spread([max(blocks) for blocks in by_seed])
    return spread_row(SUITE, name, best, unit, details={"blocks": by_seed})  # [seed][block]
