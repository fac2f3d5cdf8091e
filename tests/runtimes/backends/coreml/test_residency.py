"""The share of each unit, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from drun.backends.coreml.residency import _summary, residency


def test_shares_of_operations_and_of_cost() -> None:
    found = [("conv", "ane", 0.6), ("conv", "ane", 0.2), ("gather", "cpu", 0.1), ("cast", "cpu", 0.1), None]
    assert _summary([*found, ("add", "ane", 0.0)]) == (
        "of 5 operations 60 % on the Neural Engine (80 % of the cost), 40 % on the CPU (20 % of the cost); "
        "elsewhere are gather, cast"
    )
    assert _summary(found[:1]) == "of 1 operations 100 % on the Neural Engine (100 % of the cost)"


def test_a_system_without_plans(tmp_path: Path) -> None:
    assert residency(tmp_path, "ALL", None).startswith("Core ML does not say which unit computes what: ")


@pytest.mark.usefixtures("mac")
def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    assert "does not say" in residency(tmp_path, "ALL", "none")
