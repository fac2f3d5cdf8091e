"""The version of all four packages, which one distribution holds.

It is read on demand, because reading it takes time.
"""

from __future__ import annotations

from collections.abc import Callable

DISTRIBUTION = "dexport"


def version(distribution: str = DISTRIBUTION) -> str:
    """The version, such as 0.1.0, or "unknown" if it was not installed as a distribution."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def version_attribute(package: str) -> Callable[[str], str]:
    """A `__getattr__` for the package, which then has `__version__`."""

    def attribute(name: str) -> str:
        if name == "__version__":
            return version()
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return attribute
