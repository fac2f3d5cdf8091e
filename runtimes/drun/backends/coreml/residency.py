"""Which unit of a Mac computes what of a package: Core ML leaves operations to another one without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from drun.backends.coreml.system import DEVICES
from drun.errors import reason

NAMES = {"cpu": "CPU", "gpu": "GPU", "ane": "Neural Engine", "another": "another unit"}
#: Kinds of operations that are named, at most.
MOST_NAMED = 4


def residency(path: Path, units: str, function: str | None) -> str:
    """One sentence: the share of operations and of their estimated cost on each unit.

    Args:
        path: the compiled package. units: as coremltools calls them. function: its name; None: the only one.
    """
    import coremltools as ct

    try:
        plan = ct.models.compute_plan.MLComputePlan.load_from_path(str(path), getattr(ct.ComputeUnit, units))
        operations = plan.model_structure.program.functions[function or "main"].block.operations
        return _summary([_placed(plan, operation) for operation in operations])
    except Exception as error:  # before macOS 14.4 there are no plans
        return f"Core ML does not say which unit computes what: {reason(error)}"


def _placed(plan: Any, operation: Any) -> tuple[str, str, float] | None:
    """Operation, unit and share of the cost; None for a constant."""
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    if usage is None:
        return None
    unit = DEVICES.get(type(usage.preferred_compute_device).__name__, "another")
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    return operation.operator_name.rpartition(".")[2], unit, 0.0 if cost is None else cost.weight


def _summary(found: list[tuple[str, str, float] | None]) -> str:
    placed = [one for one in found if one is not None]
    counts = Counter(unit for _, unit, _ in placed)
    total = sum(cost for _, _, cost in placed) or 1.0
    shares = []
    for unit, count in counts.most_common():
        cost = sum(one for _, other, one in placed if other == unit) / total
        shares.append(f"{100 * count / len(placed):.0f} % on the {NAMES[unit]} ({100 * cost:.0f} % of the cost)")
    main = counts.most_common(1)[0][0] if counts else ""
    rest = Counter(name for name, unit, _ in placed if unit != main)
    elsewhere = f"; elsewhere are {', '.join(name for name, _ in rest.most_common(MOST_NAMED))}" if rest else ""
    return f"of {len(placed)} operations {', '.join(shares)}{elsewhere}"
