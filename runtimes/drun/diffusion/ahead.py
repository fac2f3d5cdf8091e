"""Large draws of noise are made one ahead on a thread, while the network computes.

Philox and numpy's loops run without Python's lock, so a draw takes a core and no time of the caller: 14 ms for 8 images
of 3 x 128 x 128. It pays where the network leaves a core free: on a GPU, or with fewer threads than cores. Where the
network fills all cores, a draw is less than a hundredth of a call, and nothing is won or lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from drun.diffusion.noise import Noise, NoiseSource

#: The numbers of a draw from which it is made ahead: it takes a millisecond, and to hand it over at most a tenth of
#: that. Smaller draws are made on the spot.
AHEAD_SIZE = 1 << 15


@contextmanager
def ahead(noise: NoiseSource, num_draws: int, size: int) -> Iterator[NoiseSource]:
    """The next draws of a source, of which one is made while the caller works with the one before it.

    The thread ends with the context, whatever ends that; an error of the source is raised by the call that asks for the
    draw.

    Args:
        num_draws: how many the caller will ask for; no more are made ahead.
        size: the numbers of a draw, N C H W.
    """
    if num_draws == 0 or size < AHEAD_SIZE:
        yield noise
    else:
        with ThreadPoolExecutor(1, "noise") as thread:
            yield _Ahead(noise, num_draws, thread)


class _Ahead:
    """A source that begins the next draw as soon as one is taken."""

    def __init__(self, noise: NoiseSource, num_draws: int, thread: ThreadPoolExecutor) -> None:
        self.noise, self.thread = noise, thread
        self.num_left = num_draws
        self.coming = self._begun()

    def __call__(self) -> Noise:
        if self.coming is None:
            return self.noise()
        draw = self.coming.result()
        self.coming = self._begun()
        return draw

    def _begun(self) -> Future[Noise] | None:
        if self.num_left == 0:
            return None
        self.num_left -= 1
        return self.thread.submit(self.noise)
