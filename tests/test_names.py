"""One name, one class: a reader who meets a public class elsewhere must not ask which one it is."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from dbench import cli as dbench
from dexport import cli as dexport
from drun import cli as drun
from dtrain import cli as dtrain

#: What every backend and every objective must be called, for its registry finds it by this name.
OF_REGISTRIES = {"Runtime", "Objective"}


def test_no_two_public_classes_share_a_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for package in (drun, dtrain, dexport, dbench):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(f"{root.name}/{path.relative_to(root)}")
    assert len(found) > 100
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in OF_REGISTRIES} == {}
