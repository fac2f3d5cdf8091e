"""The batches that a plan is built for. A static one is the fastest; a range takes any batch in it."""

from __future__ import annotations

from dataclasses import dataclass

from drun.errors import BackendUnavailable
from drun.settings import DEFAULT_BATCH


@dataclass(frozen=True)
class Profile:
    """The smallest, the usual and the largest number of images in a call."""

    low: int
    usual: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


def profiles_for(batch: tuple[int, int], usual: int = DEFAULT_BATCH) -> tuple[Profile, ...]:
    """The profiles of a graph that takes these batches.

    One size has one; N and 2 N, for guided images, have two. A wider range has the usual batch, twice that, and the
    whole range.

    Args:
        batch: the smallest and the largest one. usual: the images that are computed at a time.
    """
    low, high = batch
    if high in (low, 2 * low):
        return tuple(Profile(size, size, size) for size in dict.fromkeys(batch))
    usual = min(max(usual, low), high)
    sizes = [size for size in (usual, 2 * usual) if size <= high]
    return (*(Profile(size, size, size) for size in sizes), Profile(low, usual, high))


def profile_of(batch: int, profiles: tuple[Profile, ...]) -> int:
    """The number of the first profile that takes a batch. Raises BackendUnavailable, with all of them, if none does."""
    for number, profile in enumerate(profiles):
        if profile.low <= batch <= profile.high:
            return number
    known = ", ".join(map(str, profiles))
    raise BackendUnavailable(f"a call of {batch} images fits no profile of the plan: --batch can be {known}")
