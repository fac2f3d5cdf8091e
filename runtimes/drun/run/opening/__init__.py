"""Which backend opens which artifact in which arithmetic: it is chosen once, and handed on as one object."""

from drun.run.opening.candidates import Candidate, candidates, unavailable
from drun.run.opening.choosing import choose, choose_with_device, decoder_candidate
from drun.run.opening.opened import Opened, open_candidate
from drun.run.opening.proven import open_proven

__all__ = [
    "Candidate",
    "Opened",
    "candidates",
    "choose",
    "choose_with_device",
    "decoder_candidate",
    "open_candidate",
    "open_proven",
    "unavailable",
]
