"""Everyone who is timed: peers and our candidates, opened for one batch, with the proof of what they compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dbench.core.inputs import Inputs
from dbench.core.origin import farthest
from dbench.core.selection import open_all
from dbench.suites.peers import libraries
from dbench.suites.peers.libraries import Ingredients, Peer, Predict
from drun.bundle.artifact import TOLERANCES
from drun.bundle.reading import Bundle
from drun.console import Report, warn
from drun.errors import UserError, reason
from drun.run.golden import GoldenCall
from drun.run.opening import Candidate, Opened
from drun.run.parity import Comparison
from drun.settings import RuntimeOptions


@dataclass(frozen=True)
class Entrant:
    """What is known of a contestant when it is closed."""

    name: str
    precision: str  # it is compared with the peers of this precision
    is_ours: bool
    opened_in_s: float  # until it was ready for this batch: compilation, and for int8 calibration
    candidate: Candidate | None = None  # where it is ours


@dataclass(frozen=True)
class Contestant:
    entrant: Entrant
    predict: Predict
    opened: Opened | None = None

    def proof(self, calls: Sequence[GoldenCall], batch: int) -> Comparison:
        """The golden call that is farthest from eager PyTorch.

        Args:
            calls: of one image. batch: the size that it was opened for.
        """
        if self.opened is not None:
            return farthest(self.opened.call, calls, self.opened.tolerance().call)

        def call(x: NDArray[np.float32], t: float, labels: NDArray[np.int64] | None) -> NDArray[np.float32]:
            rest = () if labels is None else (labels.repeat(batch),)
            return self.predict(x.repeat(batch, axis=0), np.full(batch, t, np.float32), *rest)[:1]

        return farthest(call, calls, TOLERANCES[self.entrant.precision].call)


@dataclass(frozen=True)
class LeftOut:
    name: str
    reason: str


def all_peers(
    names: Sequence[str], precisions: Sequence[str], ingredients: Ingredients
) -> tuple[dict[str, list[Peer]], list[LeftOut]]:
    """The peers of each library, and the libraries that have none. precisions: empty: all."""
    found, missing = {}, []
    for name in names:
        try:
            peers = libraries.peers(name, ingredients)
            found[name] = [peer for peer in peers if not precisions or peer.precision in precisions]
        except Exception as error:  # other people's exporters raise anything
            missing.append(_left_out(name, error))
    return found, missing


def open_peers(peers: Sequence[Peer], given: Inputs, report: Report) -> tuple[list[Contestant], list[LeftOut]]:
    """Open peers for inputs like these. What fails in a library of others is left out, with its reason."""
    opened, missing = [], []
    for done, peer in enumerate(peers):
        report("opening peers", done, len(peers))
        start_s = time.perf_counter()
        try:
            predict = peer.open(given)
            predict(*given)
        except Exception as error:  # other people's compilers raise anything
            missing.append(_left_out(peer.name, error))
            continue
        entrant = Entrant(peer.name, peer.precision, False, time.perf_counter() - start_s)
        opened.append(Contestant(entrant, predict))
    report("opening peers", len(peers), len(peers))
    return opened, missing


def open_ours(
    stack: ExitStack, bundle: Bundle, chosen: Sequence[Candidate], options: RuntimeOptions, given: Inputs
) -> list[Contestant]:
    """Open our candidates for inputs like these; warnings name those that cannot be opened."""
    found: list[Contestant] = []
    start_s = time.perf_counter()

    def ready(opened: Opened) -> None:
        nonlocal start_s
        opened.backend.predict(*given)
        name, now_s = f"drun, {opened.candidate.name}", time.perf_counter()
        entrant = Entrant(name, opened.arithmetic, True, now_s - start_s, opened.candidate)
        found.append(Contestant(entrant, opened.backend.predict, opened))
        start_s = now_s

    open_all(stack, bundle, chosen, options, len(given[0]), ready)
    return found


def bound(contestant: Contestant, given: Inputs) -> Callable[[], object]:
    """A call on the same arrays each time."""
    return partial(contestant.predict, *given)


def _left_out(name: str, error: BaseException) -> LeftOut:
    why = str(error) if isinstance(error, UserError) else reason(error)
    warn(f"{name} is not measured: {why}")
    return LeftOut(name, why)
