"""Sample diffusion models from a bundle, on any backend, without PyTorch: `drun.load(path).session().sample(4)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drun.version import version_attribute

if TYPE_CHECKING:
    from drun.library import LoadedBundle, load
    from drun.run.session import Session

__version__: str
__all__ = ["LoadedBundle", "Session", "load"]


def __getattr__(name: str) -> Any:
    """Import the library when a program asks for it: every command imports this module, and should start quickly."""
    if name in ("LoadedBundle", "load"):
        from drun import library

        return getattr(library, name)
    if name == "Session":
        from drun.run.session import Session

        return Session
    return version_attribute(__name__)(name)
