"""Everyone draws the same batch, first a short one with the same noise, which is compared, then whole ones in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from dbench.core import timing
from dbench.core.matmuls import Matmuls
from dbench.core.record import ResultRow
from dbench.core.timing import Call
from dbench.suites.throughput import rows as rows_of
from dbench.suites.throughput.bare import BareCalls
from dbench.suites.throughput.names import RowNames
from dbench.suites.throughput.rows import Times, Work
from dbench.suites.throughput.ways import Way
from drun.bundle.card import Card
from drun.console import Report, warn
from drun.diffusion.noise import PhiloxNoise
from drun.errors import UserError
from drun.run import parity
from drun.run.parity import Comparison
from drun.run.sampling import Sampling, Walker
from drun.settings import SamplingSettings

#: The steps of the batch that is compared, which also lets everyone compile, allocate and capture.
COMPARED_STEPS = 10
#: The names of what takes turns with the ways.
BURST, BARE = "matrix products", ", bare calls"


@dataclass(frozen=True)
class Race:
    """All ways to draw a model's images.

    Args:
        reference: whose images are right.
        ways: the first one is what the others' speed is compared with.
        flops: of one network call on one image.
    """

    card: Card
    drawing: SamplingSettings
    reference: Walker
    ways: Sequence[Way]
    device: torch.device
    flops: int
    repeats: int
    report: Report

    def rows(self, batch: int) -> list[ResultRow]:
        """The rows of one batch.

        Raises UserError if the first way cannot draw it.
        """
        names, matmuls = RowNames(batch, self.drawing.num_steps), Matmuls(self.device, "bf16")
        proofs = self._compare(batch)
        able = {way.name: way for way in self.ways if way.name in proofs}
        samplings = {name: Sampling(self.card, way.timed, self.drawing) for name, way in able.items()}
        draws: dict[str, Call] = {name: partial(one.draw, range(batch)) for name, one in samplings.items()}
        bare = {name: found for name, way in able.items() if (found := self._bare(way, samplings[name], batch))}
        matmuls()
        timings = timing.interleave(
            {BURST: matmuls, **draws, **{f"{name}{BARE}": call for name, call in bare.items()}},
            self.repeats,
            warmup=0,
            pause_s=timing.PAUSE_S,
            on_round=lambda done: self.report(f"drawing batches of {batch}", done, self.repeats),
        )
        alone = {name: timings[f"{name}{BARE}"] for name in bare}
        times = Times({name: timings[name] for name in draws}, alone, timings[BURST])
        doubts = {name: rows_of.doubt(proof) for name, proof in proofs.items()}
        work = Work(batch * self._calls_of_an_image() * self.flops, matmuls.flops)
        return [*rows_of.proofs(proofs, names), *rows_of.speeds(times, work, names, doubts)]

    # ---- comparison -------------------------------------------------------------------------------------

    def _compare(self, batch: int) -> dict[str, Comparison]:
        """The differences of those that can draw such a batch, by name; warnings name the others."""
        short = replace(self.drawing, num_steps=min(COMPARED_STEPS, self.drawing.num_steps))
        right = Sampling(self.card, self.reference, short).draw(range(batch)).copy()
        found: dict[str, Comparison] = {}
        for done, way in enumerate(self.ways):
            self.report(f"comparing batches of {batch}", done, len(self.ways))
            try:
                own = Sampling(self.card, way.compared, short).draw(range(batch))
            except UserError as error:
                if done == 0:
                    raise
                warn(f"{way.name} draws no batch of {batch}: {error}")
                continue
            found[way.name] = parity.compare(way.name, right, own, way.allowed)
        self.report(f"comparing batches of {batch}", len(self.ways), len(self.ways))
        return found

    # ---- work -------------------------------------------------------------------------------------------

    def _calls_of_an_image(self) -> int:
        return sum(2 if guided else 1 for guided in self._is_guided(Sampling(self.card, self.reference, self.drawing)))

    def _is_guided(self, sampling: Sampling) -> list[bool]:
        return [self.card.classes is not None and row.w != 1 for row in sampling.table.rows]

    def _bare(self, way: Way, sampling: Sampling, batch: int) -> BareCalls | None:
        """The network calls of a way whose steps stay on a device; None for others."""
        is_guided = self._is_guided(sampling)
        walk = way.opened.backend.device_walk if way.opened else None
        if walk is None or way.opened is None or not way.opened.takes(batch, any(is_guided)):
            return None
        x, labels = PhiloxNoise(0, range(batch), self.card.data.shape)(), sampling.labels(range(batch))
        try:
            return BareCalls(walk, x, sampling.table.rows[0].t, labels, is_guided)
        except UserError as error:
            warn(f"the bare calls of {way.name} are not timed: {error}")
            return None
