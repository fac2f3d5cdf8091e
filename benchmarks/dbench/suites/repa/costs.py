"""What a step of each arm costs, measured in turns: curves over steps become curves over seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from dbench.core import timing
from dbench.core.timing import Spread
from dbench.suites.repa.plan import PLAIN, REPA
from dbench.suites.repa.training import placement_of
from dbench.suites.train.trial import Trial
from drun.console import Report
from dtrain.config import Recipe

REPEATS, WARMUP = 30, 3
#: The aligned arm after its alignment has ended.
ENDED = "ended"


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, and how many times a plain step an aligned one takes while the alignment lasts."""

    plain_s: float
    aligned_s: float
    ended_s: float  # of an aligned run after the alignment has ended
    ratio: Spread
    ended_ratio: Spread
    stop_after: int  # 0: the alignment never ends

    def seconds(self, arm: str, step: float) -> float:
        """The time of an arm to a step."""
        if arm == PLAIN:
            return step * self.plain_s
        aligned = min(step, self.stop_after) if self.stop_after else step
        return aligned * self.aligned_s + (step - aligned) * self.ended_s


def measure(recipes: Mapping[str, Recipe], report: Report) -> Costs:
    """Time steps of the plain and the aligned arm in turns, on the real data and with cached features.

    recipes: by arm.
    """
    plain, aligned = (_long_enough(recipes[arm]) for arm in (PLAIN, REPA))
    # An alignment of one step has ended when the timed steps begin.
    ended = replace(aligned, objective=aligned.objective | {"stop_after": 1})
    lasting = replace(aligned, objective=aligned.objective | {"stop_after": 0})
    with (
        tempfile.TemporaryDirectory(prefix="dbench-repa-", ignore_cleanup_errors=True) as scratch,
        ExitStack() as stack,
    ):
        trials = {
            name: stack.enter_context(closing(Trial(recipe, Path(scratch) / name, placement_of(recipe))))
            for name, recipe in {PLAIN: plain, REPA: lasting, ENDED: ended}.items()
        }
        times = timing.interleave(
            {name: trial.whole_step for name, trial in trials.items()},
            REPEATS,
            warmup=WARMUP,
            on_round=lambda done: report("timing steps", done, REPEATS),
        )
    seconds = {name: found.spread_ms.median / 1e3 for name, found in times.items()}
    return Costs(
        seconds[PLAIN],
        seconds[REPA],
        seconds[ENDED],
        timing.pairwise_ratio(times[REPA], times[PLAIN]),
        timing.pairwise_ratio(times[ENDED], times[PLAIN]),
        int(aligned.objective.get("stop_after", 0)),
    )


def _long_enough(recipe: Recipe) -> Recipe:
    return replace(recipe, train=replace(recipe.train, steps=recipe.train.steps + WARMUP + REPEATS))
