"""Sample diffusion models from a bundle, on any backend, without PyTorch: `drun.load(path).session().sample(4)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drun.library import LoadedBundle, load
    from drun.run.session import Session

__all__ = ["LoadedBundle", "Session", "load"]


def __getattr__(name: str) -> Any:
    """What programs use, imported when it is: every command imports this module, and should start quickly."""
    if name in ("LoadedBundle", "load"):
        from drun import library

        return getattr(library, name)
    if name == "Session":
        from drun.run.session import Session

        return Session
    raise AttributeError(f"module 'drun' has no attribute '{name}'")
