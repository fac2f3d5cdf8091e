"""The outcomes of a campaign, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dbench.campaign.slices import Outcome


def shown(outcomes: Mapping[str, Outcome]) -> str:
    """A line for each slice, and how many have which outcome."""
    width, status_width = (max(map(len, words)) for words in (outcomes, [one.status for one in outcomes.values()]))
    lines = [
        f"{name:{width}}  {one.status:{status_width}}  {one.seconds:5.0f} s  {one.reason}".rstrip()
        for name, one in outcomes.items()
    ]
    counts = Counter(one.status for one in outcomes.values())
    return "\n".join([*lines, ", ".join(f"{count} {status}" for status, count in counts.items())])
