"""The packages of a network in a report: a line for each."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result
from dbench.html import page
from dbench.suites.coreml.rows import CALL, MEMORY, SECONDS, SIZE, SLOWER, TRAJECTORY, VALUES, row_name

HEAD = {
    SIZE: "MB", SECONDS: "export s", MEMORY: "export GB", CALL: "worst call dB", TRAJECTORY: "images dB",
    SLOWER: "executor x", VALUES: "executor MB",
}  # fmt: skip


def packages(result: Result) -> str:
    """HTML of a result of `dbench coreml`."""
    return page.section(
        "Core ML packages",
        page.table(_head(result), _lines(result), caption(result)),
        *map(page.paragraph, _refused(result)),
        page.results(result, f"Of {result.subject['name']}"),
    )


def markdown(result: Result) -> str:
    """The same in Markdown, without the rows."""
    facts = "\n".join(f"- {fact}" for fact in _refused(result))
    return "\n\n".join(filter(None, [record.table(_head(result), _lines(result)), caption(result), facts]))


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each package of each network. results: with names."""
    columns = max((_columns(result) for _, result in results), key=len)
    lines = [
        [f"`{name}`", *line, *[record.UNKNOWN] * (len(columns) - len(_columns(result)))]
        for name, result in results
        for line in _lines(result)
    ]
    longest = max(results, key=lambda one: int(one[1].settings["steps"]))[1]
    head = ["network", "package", *(HEAD[what] for what in columns)]
    return f"`dbench coreml`: {caption(longest)}\n\n{record.table(head, lines)}"


def caption(result: Result) -> str:
    """What the columns say."""
    steps = int(result.settings["steps"])
    proven = (
        " dB from eager PyTorch by the reference executor (peak: the range), fp32 packages in float32, others with "
        "each result rounded as it is declared: the worst single call, and the final images of "
        f"{steps} steps on the same noise. Executor: how many times as long as eager PyTorch a call of one image "
        "takes, in turns, and the most memory that it takes in a fresh process beyond its imports and the weights "
        "that it keeps."
        if steps
        else ""
    )
    return (
        "Each package holds functions for 1 and 2 images; those for the Neural Engine (ane) are two, of which the "
        "conditioning is in fp32. Export: seconds without the golden file and its proof, and the most memory of that "
        f"process, the network included.{proven} {record.MARK}: measured beside too much other work."
    )


def _head(result: Result) -> list[str]:
    return ["package", *(HEAD[what] for what in _columns(result))]


def _columns(result: Result) -> list[str]:
    """Packages may be made alone."""
    return [*HEAD] if result.settings["steps"] else [SIZE, SECONDS, MEMORY]


def _lines(result: Result) -> list[list[str]]:
    values = {row.name: record.shown(row, result.machine) for row in result.rows}
    return [
        [f"`{name}`", *(values.get(row_name(name, what), record.UNKNOWN) for what in _columns(result))]
        for name in result.settings["packages"]
    ]


def _refused(result: Result) -> list[str]:
    return [f"Refused: {why}" for why in result.settings["refused"].values()]
