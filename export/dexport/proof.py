"""The extent of a golden file, and whether it is enough."""

from __future__ import annotations

from dataclasses import dataclass

from drun.run.golden import Golden

#: The samples of the short trajectory; every artifact can compute them by padding and cutting.
SHORT_BATCH = 3
#: The steps of the bundle's own sampler in a full proof, and of a network above LARGE parameters, of which more steps
#: would take longer than all else.
NUM_STEPS, LARGE_NUM_STEPS, LARGE = 25, 10, 300_000_000


@dataclass(frozen=True)
class Proof:
    """The comparisons of a golden file.

    Single calls take states of the short trajectory, which are inputs of real sampling.
    """

    num_states: int  # steps of the short trajectory
    batches: tuple[int, ...]  # batch sizes of the single calls, at most SHORT_BATCH
    num_steps: int  # of the trajectory with the bundle's own sampler; 0: there is none

    @property
    def is_quick(self) -> bool:
        return not self.covers(full_proof(1))

    def covers(self, other: Proof) -> bool:
        """Whether it compares at least everything that the other one compares."""
        return self == self.united(other)

    def united(self, other: Proof) -> Proof:
        """The proof that covers both."""
        return Proof(
            max(self.num_states, other.num_states),
            tuple(sorted({*self.batches, *other.batches})),
            max(self.num_steps, other.num_steps),
        )


#: A tenth of the work or less: guidance and the bundle's own sampler are left to the tests of `drun`.
QUICK_PROOF = Proof(2, (1,), 0)


def usual_steps(num_parameters: int) -> int:
    """The steps of the bundle's own sampler in the full proof of a network of this size."""
    return LARGE_NUM_STEPS if num_parameters > LARGE else NUM_STEPS


def full_proof(num_steps: int = NUM_STEPS) -> Proof:
    """The proof that every bundle should have, with `num_steps` steps of its own sampler."""
    return Proof(5, (1, SHORT_BATCH), num_steps)


def proof_of(golden: Golden) -> Proof:
    """The proof that a golden file holds."""
    short, *long = golden.trajectories
    sizes = {len(call.x) for call in golden.calls}
    return Proof(short.settings.num_steps, tuple(sorted(sizes)), long[0].settings.num_steps if long else 0)
