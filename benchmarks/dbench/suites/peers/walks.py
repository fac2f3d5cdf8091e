"""One guided image from noise to data: `drun`'s walk beside a plain loop of plain OpenVINO calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from dbench.core import timing
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Timing
from dbench.suites.peers import plain
from dbench.suites.peers.libraries import Peer
from dbench.suites.peers.settings import SUITE
from drun.bundle.card import Card
from drun.bundle.reading import Bundle
from drun.console import Report, warn
from drun.diffusion.arrays import State
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError
from drun.run import parity
from drun.run.opening import Candidate, open_candidate
from drun.run.opening.split import Split
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import RuntimeOptions, SamplingSettings

#: The guidance of the images, and their class.
WEIGHT, LABEL = 1.5, 0

Draw = Callable[[], State]


def walk_rows(
    bundle: Bundle,
    ours: Mapping[str, Candidate],
    peers: Sequence[Peer],
    options: RuntimeOptions,
    steps: int,
    repeats: int,
    report: Report,
) -> list[ResultRow]:
    """Draw the same image by both in each precision that both have, in turns.

    A model that cannot be guided, or that the plain loops do not know, has no rows, and a warning says why.

    Args:
        ours: precision -> the candidate to draw with.
        peers: those of OpenVINO.
    """
    card = bundle.manifest.card
    theirs = {peer.precision: peer for peer in peers}
    try:
        if not card.can_guide:
            raise ConfigError("the model has no label for 'no class'")
        loop, settings = plain.loop_of(card, steps), _settings(card, steps)
    except ConfigError as error:
        warn(f"no guided image is drawn end to end: {error}")
        return []
    pairs = ImagePairs(bundle, {one: ours[one] for one in ours if one in theirs}, theirs, settings, loop, options)
    # What is opened first lies better in memory, and what is drawn first finds other caches.
    later = repeats // 2
    images, first = pairs.seating(repeats - later, report)
    _, second = pairs.seating(later, report, is_reversed=True)
    return _rows({key: times.then(second[key]) for key, times in first.items()}, images, steps)


#: (precision, name)
Key = tuple[str, str]


@dataclass(frozen=True)
class ImagePairs:
    """The same image by ours and by the plain loop, in each precision that both have."""

    bundle: Bundle
    ours: Mapping[str, Candidate]
    theirs: Mapping[str, Peer]
    settings: SamplingSettings
    loop: plain.Loop
    options: RuntimeOptions

    def seating(
        self, repeats: int, report: Report, is_reversed: bool = False
    ) -> tuple[dict[Key, State], dict[Key, Timing]]:
        """Open all, ours first unless reversed, draw in turns, and close them again."""
        with ExitStack() as stack:
            openers: dict[Key, Callable[[], Draw]] = {}
            for precision, candidate in self.ours.items():
                openers[precision, f"drun, {candidate.name}"] = partial(self._ours, stack, candidate)
                openers[precision, self.theirs[precision].name] = partial(self._plain, self.theirs[precision])
            keys = [*openers][:: -1 if is_reversed else 1]
            draws = {key: openers[key]() for key in keys}
            images = {key: draw().copy() for key, draw in draws.items()}
            timings = _timed(draws, repeats, report)
        return {key: images[key] for key in openers}, {key: timings[key] for key in openers}

    def _ours(self, stack: ExitStack, candidate: Candidate) -> Draw:
        opened = stack.enter_context(open_candidate(self.bundle, candidate, self.options))
        draw = partial(Sampling(self.bundle.manifest.card, opened, self.settings).draw, [0])
        backend = opened.backend
        if not isinstance(backend, Split):
            return draw

        def anew() -> State:
            backend.forget()  # or every image but the first would be drawn without its conditioning
            return draw()

        return anew

    def _plain(self, peer: Peer) -> Draw:
        card = self.bundle.manifest.card
        assert card.classes is not None
        predict: Any = peer.open(plain.inputs(card, 2))
        denoise = plain.guided(predict, LABEL, card.classes.null_label or 0, WEIGHT)
        return lambda: self.loop(denoise, PhiloxNoise(0, [0], card.data.shape)())


def _settings(card: Card, steps: int) -> SamplingSettings:
    """Raises ConfigError if the model has fewer steps."""
    wanted = "euler" if card.prediction == "velocity" else "ddim"
    if card.process.most_steps(steps) < steps:
        raise ConfigError(f"--steps got {steps}, the model has {card.process.most_steps(steps)}")
    return SamplingSettings(*resolve_sampler(card, wanted, {}), steps, labels=str(LABEL), cfg=WEIGHT, cfg_channels=0)


def _timed(draws: Mapping[Key, Draw], repeats: int, report: Report) -> dict[Key, Timing]:
    names = {name: key for key in draws for name in [" ".join(key)]}
    found = timing.interleave(
        {name: draws[key] for name, key in names.items()},
        repeats if draws else 0,
        warmup=0,
        pause_s=timing.PAUSE_S,
        on_round=lambda done: report("drawing images", done, repeats),
    )
    return {names[name]: times for name, times in found.items()}


# ---- rows -----------------------------------------------------------------------------------------------


def image_name(name: str, steps: int) -> str:
    return f"{name}, an image of {steps} guided steps"


def _rows(timings: Mapping[Key, Timing], images: Mapping[Key, State], steps: int) -> list[ResultRow]:
    rows = []
    keys = list(timings)
    for ours, theirs in zip(keys[::2], keys[1::2], strict=True):
        error = parity.compare("image", images[theirs], images[ours], 0.0)
        difference = {"relative_l2": error.relative_l2, "psnr_db": error.psnr_db}
        rows += [_time_row(ours, timings[ours], steps, difference), _time_row(theirs, timings[theirs], steps, {})]
        found = timing.ratios(timings[theirs], timings[ours])
        rows.append(
            spread_row(
                SUITE,
                f"drun in {ours[0]} to a plain loop, an image of {steps} guided steps",
                timing.spread(found),
                "x",
                details={"of": ours[1], "to": theirs[1], "interval_95": timing.median_interval(found)} | difference,
                headline=f"as fast as a loop of plain OpenVINO calls: an image of {steps} guided steps in {ours[0]}",
            )
        )
    return rows


def _time_row(key: Key, times: Timing, steps: int, from_plain: Mapping[str, float]) -> ResultRow:
    seconds = [ms / 1e3 for ms in times.latencies_ms]
    details = {"precision": key[0], "name": key[1], "seconds": seconds, "from_the_plain_loop": dict(from_plain)}
    return spread_row(SUITE, image_name(key[1], steps), timing.spread(seconds), "s", details=details)
