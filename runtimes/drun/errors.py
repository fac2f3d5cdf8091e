"""Errors that a user can act on: each message says what, got, expected and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input. Commands print the message as one sentence and exit with `exit_code`."""

    exit_code = 1


class ConfigError(UserError):
    """An option, recipe or setting is wrong."""


class DataError(UserError):
    """A data file or folder is missing, empty, broken or of the wrong shape."""


class CheckpointError(UserError):
    """A checkpoint is truncated, unsafe or not recognised."""


class BundleError(UserError):
    """A bundle is damaged, incomplete or of an unknown version."""


class BackendUnavailable(UserError):
    """A runtime is not installed or cannot run here; the message holds the install line."""


class NotFiniteError(UserError):
    """A network gave NaN or infinity."""


class ParityError(UserError):
    """A target does not compute what eager PyTorch computed."""

    exit_code = 3


class ExportError(UserError):
    """A network cannot be exported in a form that every runtime reads."""
