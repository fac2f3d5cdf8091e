"""Measures everyone on one subject: calls in turns, an image end to end, and the cold start of `drun`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dbench.core import fresh, machine, subject, timing
from dbench.core.flops import forward_flops
from dbench.core.fresh import Job
from dbench.core.inputs import Inputs, check_batches, example
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.core.selection import select
from dbench.suites.peers import libraries
from dbench.suites.peers.calls import Timed, call_rows, parity_row, time_calls
from dbench.suites.peers.contest import LeftOut, all_peers, open_ours, open_peers
from dbench.suites.peers.libraries import Ingredients, Peer
from dbench.suites.peers.making import Subject, prepare
from dbench.suites.peers.products import largest
from dbench.suites.peers.settings import SUITE, PeersSettings
from dbench.suites.peers.walks import walk_rows
from drun.console import Report
from drun.run.golden import read_golden
from drun.run.opening import Candidate
from drun.run.parity import Comparison
from drun.settings import RuntimeOptions

#: Steps of the images whose first appearance is timed.
COLD_STEPS = 2
LIBRARIES = ("nncf", "diffusers")


def measure(settings: PeersSettings, report: Report) -> Result:
    """Time everyone in turns on the same weights, threads and inputs, with the parity of each.

    Raises:
        ConfigError: see `making.prepare`; an unknown library, backend, artifact or precision, or a batch that no
        artifact has. BackendUnavailable: nothing here opens the bundle.
    """
    names = libraries.chosen(settings.peers)
    start = machine.usage()
    settings = replace(settings, threads=settings.threads or machine.num_cores())
    options = RuntimeOptions(settings.threads)
    with tempfile.TemporaryDirectory(prefix="dbench-peers-", ignore_cleanup_errors=True) as scratch:
        with _threads(settings.threads):
            of = prepare(settings, Path(scratch), report)
            chosen = select(of.bundle, settings.backends, settings.precisions, settings.artifacts)
            check_batches(chosen, settings.batches)
            network, own = of.denoiser.network.requires_grad_(False), of.denoiser
            ingredients = Ingredients(network, own.card, settings.threads, Path(scratch), settings.states)
            found, left_out = all_peers(names, settings.precisions, ingredients)
            peers = [peer for of_library in found.values() for peer in of_library]
            contest = Contest(of, chosen, peers, settings, left_out, report)
            rows = contest.rows()
            if settings.steps:
                plain = [peer for peer in found.get("openvino", []) if peer.name in contest.proofs]
                rows += walk_rows(of.bundle, contest.best, plain, options, settings.steps, settings.few, report)
        rows += _cold_starts(of, contest.opened, options, settings.starts, report)
    rows += [ResultRow(SUITE, f"{one.name}, left out", None, "", details={"reason": one.reason}) for one in left_out]
    shown = {key: value for key, value in asdict(settings).items() if key not in ("model", "bundle")}
    here = machine.fingerprint(settings.threads, since=start)
    return Result(tuple(rows), _subject(of), shown, here, this_command())


def _subject(of: Subject) -> dict[str, Any]:
    return subject.of_bundle(of.bundle) | {
        "weights": "random" if of.is_random else of.denoiser.weights,
        "state_shape": of.denoiser.card.data.shape,
        "versions": {library: _version(library) for library in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- calls ----------------------------------------------------------------------------------------------


@dataclass
class Contest:
    """All calls of one subject, and what was found on the way."""

    of: Subject
    chosen: Sequence[Candidate]
    peers: Sequence[Peer]
    settings: PeersSettings
    left_out: list[LeftOut]
    report: Report
    proofs: dict[str, Comparison] = field(default_factory=dict)
    best: dict[str, Candidate] = field(default_factory=dict)  # precision -> our fastest at the first batch
    opened: list[Candidate] = field(default_factory=list)  # those of `chosen` that could be opened, in their order

    def rows(self) -> list[ResultRow]:
        """The rows of all batches, and of the proofs."""
        rows = [row for batch in self.settings.batches for row in self._rows_of(batch)]
        return [*(parity_row(name, proof) for name, proof in self.proofs.items()), *rows]

    def _rows_of(self, batch: int) -> list[ResultRow]:
        timed = self._timed(batch)
        self.best = self.best or _fastest(timed, self.proofs)
        self.opened = self.opened or [one.candidate for one in timed.everyone if one.candidate]
        return call_rows(timed, self.proofs)

    def _timed(self, batch: int) -> Timed:
        """Everyone is opened twice, in one order and then in its reverse.

        What is opened first lies better in memory: of two equal graphs of a U-Net it was 1 % faster.
        """
        later = self.settings.repeats // 2
        first = self._seating(batch, self.peers, self.chosen, self.settings.repeats - later)
        return first.joined(self._seating(batch, self.peers[::-1], self.chosen[::-1], later, are_ours_first=True))

    def _seating(
        self, batch: int, peers: Sequence[Peer], chosen: Sequence[Candidate], repeats: int, are_ours_first: bool = False
    ) -> Timed:
        """Everyone, opened in this order and closed again."""
        given, bundle, network = example(self.of.bundle, batch), self.of.bundle, self.of.denoiser.network
        flops = batch * forward_flops(network, *_tensors(example(bundle, 1)))
        products, threads = largest(network, *_tensors(given)), self.settings.threads
        golden = [call for call in read_golden(bundle).calls if len(call.x) == 1]
        with ExitStack() as stack:
            ours = partial(open_ours, stack, bundle, chosen, RuntimeOptions(threads), given)
            everyone = ours() if are_ours_first else []
            of_peers, missing = open_peers(peers, given, self.report)
            self.left_out += [one for one in missing if one not in self.left_out]
            everyone += of_peers if are_ours_first else of_peers + ours()
            timed = time_calls(everyone, given, products, flops, threads, repeats, self.report)
            for one in everyone:
                if one.entrant.name not in self.proofs:
                    self.proofs[one.entrant.name] = one.proof(golden, batch)
        return timed


def _tensors(given: Inputs) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in given]


def _fastest(timed: Timed, proofs: dict[str, Comparison]) -> dict[str, Candidate]:
    """precision -> our fastest candidate that passed."""
    found = {one.precision: timed.best(one.precision, True, proofs) for one in timed.everyone if one.is_ours}
    return {precision: one.candidate for precision, one in found.items() if one and one.candidate}


# ---- fresh processes ------------------------------------------------------------------------------------


def _cold_starts(
    of: Subject, chosen: Sequence[Candidate], options: RuntimeOptions, starts: int, report: Report
) -> list[ResultRow]:
    """From the start of a process to its first image, for the first candidate of each backend; caches are warm."""
    first = {one.backend: one for one in reversed(chosen)}
    jobs = [Job(of.bundle.path, first[name], options, 1, 1, COLD_STEPS) for name in sorted(first)]
    for job in jobs:
        fresh.cold_start_s(job)  # fills the caches
    seconds = fresh.cold_starts_s(jobs, starts, report)
    return [
        spread_row(
            SUITE,
            f"drun, {name}, cold start to the first image, {COLD_STEPS} steps",
            timing.spread(found),
            "s",
            details={"name": name, "seconds": found},
        )
        for name, found in seconds.items()
    ]
