"""Selects and opens the candidates of a bundle, artifact x backend x arithmetic, that a suite measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from dbench.core.inputs import check_batch
from drun import backends
from drun.bundle.reading import Bundle
from drun.console import warn
from drun.errors import ConfigError, UserError
from drun.run.opening import Candidate, Opened, candidates, choose, open_candidate
from drun.settings import RuntimeOptions


def select(
    bundle: Bundle,
    names: Sequence[str] = (),
    precisions: Sequence[str] = (),
    artifacts: Sequence[str] = (),
    device: str | None = None,
) -> list[Candidate]:
    """Every candidate that fits, the preferred backend first.

    Args:
        names: names of backends; empty: all that can open the bundle here, but for references.
        precisions: arithmetics; empty: all.
        artifacts: ids such as onnx-fp32; empty: all.
        device: see `drun.run.opening.candidates`.

    Raises:
        ConfigError: an unknown backend, or a precision or artifact that no candidate has. BackendUnavailable: a named
        backend cannot run here, or none can.
    """
    found = _of_backends(bundle, names, device)
    found = _keep(found, "--artifact", artifacts, lambda one: one.artifact.id if one.artifact else "")
    return _keep(found, "--precision", precisions, lambda one: one.arithmetic)


def _of_backends(bundle: Bundle, names: Sequence[str], device: str | None) -> list[Candidate]:
    """The candidates of these backends. A backend without formats, or a reference, is measured only if it is named."""
    if not names:
        return [one for one in candidates(bundle, device=device) if not backends.load(one.backend).is_reference]
    found = []
    for name in dict.fromkeys(names):
        found += candidates(bundle, [name], device) if backends.load(name).formats else [choose(bundle, name)]
    return found


def _keep(
    found: list[Candidate], option: str, wanted: Sequence[str], of: Callable[[Candidate], str]
) -> list[Candidate]:
    """Keep the candidates with wanted values. Raises ConfigError for a value that no candidate has."""
    known = dict.fromkeys(filter(None, map(of, found)))
    for value in wanted:
        if value not in known:
            raise ConfigError(f"{option} got '{value}', expected one of {', '.join(known)}")
    return [one for one in found if not wanted or of(one) in wanted]


def open_all(
    stack: ExitStack,
    bundle: Bundle,
    chosen: Sequence[Candidate],
    options: RuntimeOptions,
    batch: int | None = None,
    ready: Callable[[Opened], None] = lambda opened: None,
) -> list[Opened]:
    """Open the candidates that can be opened and take the batch; warnings name the others.

    batch: None: any will do.
    ready: called with each as soon as it is open.

    Raises:
        UserError: none can be opened, with the reason of the first.
    """
    opened: list[Opened] = []
    failed: dict[str, UserError] = {}
    for candidate in chosen:
        try:
            if batch is not None:
                check_batch(candidate, batch)
            opened.append(stack.enter_context(open_candidate(bundle, candidate, options)))
            ready(opened[-1])
        except UserError as error:
            failed[candidate.name] = error
    if not opened:
        raise next(iter(failed.values()))
    for name, reason in failed.items():
        warn(f"{name} is not timed: {reason}")
    return opened
