"""Finds the extra of this package that installs a missing library, from the package's own metadata."""

from __future__ import annotations

import re
from importlib.util import find_spec

PACKAGE = "dexport"
#: Libraries that are imported by another name than they are installed by.
PROJECTS = {
    "cuda": "cuda-core",
    "onnx_ir": "onnx-ir",
    "onnxruntime_ep_webgpu": "onnxruntime-ep-webgpu",
    "sklearn": "scikit-learn",
    "tensorrt_rtx": "tensorrt-rtx",
}
#: `torch>=2.11; extra == 'train'`
REQUIREMENT = re.compile(r"""([\w.-]+).*;\s*extra\s*==\s*['"]([\w-]+)['"]""")


def install_line(module: str, usual: str | None = None) -> str | None:
    """The command that installs a library; None if it is installed, or no extra brings it.

    Args:
        module: as in an import statement.
        usual: the extra of the running command. It is preferred if it installs the library; otherwise the smallest one
            is.
    """
    name = module.partition(".")[0]
    extras = {extra: projects for extra, projects in _extras().items() if PROJECTS.get(name, name) in projects}
    if not extras or is_installed(name):
        return None
    chosen = usual if usual in extras else min(extras, key=lambda extra: len(extras[extra]))
    return f"pip install '{PACKAGE}[{chosen}]'"


def is_installed(name: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return find_spec(name) is not None
    except ImportError:  # a finder keeps the module from being imported
        return False


def _extras() -> dict[str, set[str]]:
    """extra -> the libraries that it installs, including those of the extras that it includes."""
    from importlib.metadata import PackageNotFoundError, requires  # it takes 15 ms, and few commands need it

    extras: dict[str, set[str]] = {}
    try:
        requirements = requires(PACKAGE) or []
    except PackageNotFoundError:  # these sources were not installed
        return extras
    for match in filter(None, map(REQUIREMENT.fullmatch, requirements)):
        extras.setdefault(match[2], set()).add(match[1])
    return extras
