"""Everyone draws the same batch, first a short one with the same noise, which is compared, then whole ones in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from drun.device.walk import DeviceWalk
from drun.diffusion.noise import PhiloxNoise
from drun.errors import UserError
from drun.run import parity
from drun.run.parity import Comparison
from drun.run.sampling import Sampling, Walker
from drun.settings import SamplingSettings

#: Of the batch that is compared. It also lets everyone compile, allocate and capture.
COMPARED_STEPS = 10
#: Of what takes turns with the ways.
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
        bare = {name: self._bare(walk, samplings[name], batch) for name, walk in _device_walks(able).items()}
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
        work = Work(batch * self._calls_of_an_image() * self.flops, matmuls.flops)
        return [*rows_of.proofs(proofs, names), *rows_of.speeds(times, work, names)]

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

    def _bare(self, walk: DeviceWalk, sampling: Sampling, batch: int) -> BareCalls:
        """The network calls of a walk on a device."""
        x, labels = PhiloxNoise(0, range(batch), self.card.data.shape)(), sampling.labels(range(batch))
        return BareCalls(walk, x, sampling.table.rows[0].t, labels, self._is_guided(sampling))


def _device_walks(ways: Mapping[str, Way]) -> dict[str, DeviceWalk]:
    """Those of `drun` whose steps stay on a device."""
    found = {name: way.opened.backend.device_walk for name, way in ways.items() if way.opened is not None}
    return {name: walk for name, walk in found.items() if walk is not None}
