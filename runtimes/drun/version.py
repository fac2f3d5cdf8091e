"""The version of all four packages, which one distribution holds.

It is read on demand, because reading it takes time.
"""

from __future__ import annotations

from collections.abc import Callable

DISTRIBUTION = "dexport"


def version() -> str:
    """The version, such as 0.1.0, or "unknown" if the sources were not installed."""
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def version_attribute(package: str) -> Callable[[str], str]:
    """A `__getattr__` for the package, which then has `__version__`."""

    def attribute(name: str) -> str:
        if name == "__version__":
            return version()
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return attribute
