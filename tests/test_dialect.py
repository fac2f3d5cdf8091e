"""One dialect of errors: a message starts lower-case, has no full stop, and is one sentence.

`raise ConfigError(f"--seeds got '{text}', expected whole numbers such as 0,1,2")`: what, got, expected, what to do. The
commands print `error: ` or `warning: ` before it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from drun import errors

KINDS = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.UserError)}
#: Begins a message by its own name, which has a capital.
PROPER = ("ONNX Runtime ", "OpenVINO ", "PyTorch ", "TensorRT ", "Core ML ", "CKNNA ", "REPA ", "DiT ", "SiT ")
#: Stands where a value is put in.
VALUE = "{}"


def message_of(node: ast.expr) -> str | None:
    """The text of a literal, values as `{}`; None where it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (message_of(node.left) or VALUE) + (message_of(node.right) or VALUE)
    return None


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each typed error that is raised and of each warning."""
    for node in ast.walk(ast.parse(source)):
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call) or not call.args:
            continue
        is_error = isinstance(node, ast.Raise) and name_of(call.func) in KINDS
        is_warning = isinstance(call.func, ast.Name) and call.func.id == "warn"
        if (is_error or is_warning) and (text := message_of(call.args[0])):
            yield call.lineno, text


def faults(text: str) -> list[str]:
    """What is wrong with a message, in words."""
    found = []
    if text[0].isupper() and not text.startswith(PROPER):
        found.append("starts with a capital")
    if text.endswith(".") and not text.endswith("..."):
        found.append("ends with a full stop")
    if re.search(r"[^.]\. [A-Z]", text):
        found.append("has a second sentence")
    return found


@pytest.mark.parametrize("package", ["drun", "dtrain", "dexport", "dbench"])
def test_messages_are_of_one_dialect(package: str) -> None:
    root = Path(str(import_module(package).__file__)).parent
    found = {
        f"{path.relative_to(root.parent)}:{line}: {text}": wrong
        for path in sorted(root.rglob("*.py"))
        for line, text in messages(path.read_text(encoding="utf-8"))
        if (wrong := faults(text))
    }
    assert found == {}


def test_the_messages_are_found() -> None:
    """A walk that finds nothing would pass, too."""
    source = """
if a:
    raise ConfigError(f"The size got {size}.")
raise errors.DataError("broken " + name) from error
raise ValueError("Not ours.")
raise DataError(message)
warn("odd. Look again")
"""
    assert [text for _, text in sorted(messages(source))] == ["The size got {}.", "broken {}", "odd. Look again"]
    packages = [Path(str(import_module(name).__file__)).parent for name in ("drun", "dtrain")]
    texts = [text for root in packages for path in root.rglob("*.py") for _, text in messages(path.read_text())]
    assert len(texts) > 200


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("--seeds got '{}', expected whole numbers such as 0,1,2", []),
        ("'{}' is not a bundle", []),
        ("ONNX Runtime cannot open '{}': expected --steps 1, 2, ...", []),
        ("The size got {}", ["starts with a capital"]),
        ("the size got {}.", ["ends with a full stop"]),
        ("the size got {}. Change it", ["has a second sentence"]),
    ],
)
def test_the_dialect(text: str, wrong: list[str]) -> None:
    assert faults(text) == wrong
