"""Heats and a final: everything is opened, proven and timed alone, then the fastest ones take turns.

Large networks do not fit into memory side by side, so only a few are open at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial

from dbench.core import machine, subject, timing
from dbench.core.inputs import check_batch
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.core.timing import Timing
from dbench.suites.pick.settings import SUITE, PickSettings
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import Report, say, silent, warn
from drun.errors import BackendUnavailable, DeviceUnavailable, UserError
from drun.run import parity
from drun.run.opening import Candidate, Opened, candidates, open_candidate
from drun.run.opening.picks import Pick, remember
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import RuntimeOptions, SamplingSettings

#: Those in the final: the fastest one of the heats, and at most this many that are this close to it.
MOST_FINALISTS, CLOSE = 3, 1.3


@dataclass(frozen=True)
class Contender:
    """A candidate on a device."""

    candidate: Candidate
    device: str

    @property
    def name(self) -> str:
        return f"{self.candidate.name} on {self.device}"

    def open(self, bundle: Bundle, settings: PickSettings) -> Opened:
        """Raises UserError if it cannot be opened, or does not take the batch."""
        check_batch(self.candidate, settings.batch)
        options = RuntimeOptions(settings.threads, self.device, trust=settings.trust)
        return open_candidate(bundle, self.candidate, options)


@dataclass(frozen=True)
class Lap:
    """A contender, and its times of an image and step."""

    contender: Contender
    times: Timing

    @property
    def ms(self) -> float:
        return self.times.spread_ms.median


def measure(settings: PickSettings, report: Report) -> Result:
    """Time all contenders, and note the winner.

    Raises:
        BackendUnavailable: none passes its proof here. UserError: the winner cannot be noted.
    """
    bundle, start = bundles.open_bundle(settings.bundle), machine.usage()
    heats = _heats(bundle, list(contenders(bundle, settings)), settings, report)
    if not heats:
        raise BackendUnavailable(f"nothing here computes '{bundle.path}' and passes its proof: see drun check --all")
    finals = _final(bundle, finalists(heats), settings, report)
    winner = min(finals, key=lambda one: one.ms)
    _note(bundle, winner)
    in_final = [one.contender for one in finals]
    rows = [_row(one, "the fastest here" if one is winner else "") for one in finals]
    rows += [_row(one, alone=True) for one in heats if one.contender not in in_final]
    shown = {key: value for key, value in asdict(settings).items() if key != "bundle"}
    here = machine.fingerprint(settings.threads or machine.num_cores(), since=start)
    return Result(tuple(rows), subject.of_bundle(bundle), shown, here, this_command())


def contenders(bundle: Bundle, settings: PickSettings) -> Iterator[Contender]:
    """Every able backend x device x artifact x arithmetic, but for references."""
    for name in backends.names():
        runtime = backends.load(name)
        if runtime.is_reference or not runtime.formats or not runtime.probe().available:
            continue
        for device in runtime.devices:
            try:
                found = candidates(bundle, [name], device)
            except UserError:  # it opens nothing of this bundle there
                continue
            wanted = settings.precisions
            yield from (Contender(one, device) for one in found if not wanted or one.arithmetic in wanted)


def _heats(bundle: Bundle, found: Sequence[Contender], settings: PickSettings, report: Report) -> list[Lap]:
    """Those that pass, each timed alone."""
    timed: list[Lap] = []
    for done, one in enumerate(found):
        report("proving and timing", done, len(found), one.name)
        try:
            with one.open(bundle, settings) as opened:
                _check(bundle, opened)
                timed += _timed(bundle, [(one, opened)], settings)
        except DeviceUnavailable:  # this machine has none
            continue
        except UserError as error:
            warn(f"{one.name} is left out: {error}")
    report("proving and timing", len(found), len(found))
    return timed


def _check(bundle: Bundle, opened: Opened) -> None:
    """Raises BackendUnavailable if it does not compute what eager PyTorch computed."""
    results = parity.check(bundle, opened, silent)
    if failed := [result for result in results if not result.passed]:
        worst = parity.worst(failed)
        raise BackendUnavailable(f"{worst.name}: relative L2 {worst.relative_l2:.2g}, allowed {worst.allowed}")


def finalists(heats: Sequence[Lap]) -> list[Contender]:
    """The fastest ones."""
    ranked = sorted(heats, key=lambda one: one.ms)
    return [one.contender for one in ranked[:MOST_FINALISTS] if one.ms <= CLOSE * ranked[0].ms]


def _final(bundle: Bundle, found: Sequence[Contender], settings: PickSettings, report: Report) -> list[Lap]:
    """They take turns."""
    with ExitStack() as stack:
        opened = [(one, stack.enter_context(one.open(bundle, settings))) for one in found]
        return _timed(bundle, opened, settings, lambda done: report("timing the fastest", done, settings.repeats))


def _timed(
    bundle: Bundle,
    opened: Sequence[tuple[Contender, Opened]],
    settings: PickSettings,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[Lap]:
    card = bundle.manifest.card
    drawn = SamplingSettings(*resolve_sampler(card, None, {}), settings.steps)
    indices = range(settings.batch)
    calls = {one.name: partial(Sampling(card, network, drawn).draw, indices) for one, network in opened}
    pause_s = timing.PAUSE_S if len(calls) > 1 else 0.0
    times = timing.interleave(calls, settings.repeats, warmup=1, pause_s=pause_s, on_round=on_round)
    count = settings.batch * settings.steps
    return [Lap(one, Timing(tuple(ms / count for ms in times[one.name].latencies_ms))) for one, _ in opened]


def _note(bundle: Bundle, winner: Lap) -> None:
    candidate, device = winner.contender.candidate, winner.contender.device
    assert candidate.artifact is not None
    path = remember(bundle, Pick(candidate.backend, candidate.artifact.id, candidate.arithmetic, device, winner.ms))
    name = winner.contender.name
    say(f"{name} is the fastest here, {winner.ms:.3g} ms an image and step: drun --backend auto takes it ({path})")


def _row(one: Lap, headline: str = "", *, alone: bool = False) -> ResultRow:
    """A time taken alone is no better and no worse than one of the final: the machine may have been busier then."""
    name = f"{one.contender.name}, an image and step{', timed alone' if alone else ''}"
    return spread_row(SUITE, name, one.times.spread_ms, "ms", headline=headline)
