"""The version of all four packages, which one distribution holds, and the versions of libraries."""

from __future__ import annotations

from collections.abc import Callable

#: The build reads it here, so that a start of `drun` need not search for the installed distribution.
VERSION = "0.1.0"


def version_of(distribution: str) -> str:
    """The version of an installed library, such as 2.3.5, or "unknown" if it was not installed as a distribution."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def version_attribute(package: str) -> Callable[[str], str]:
    """A `__getattr__` for the package, which then has `__version__`."""

    def attribute(name: str) -> str:
        if name == "__version__":
            return VERSION
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return attribute
