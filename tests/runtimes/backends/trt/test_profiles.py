"""The batches of a plan."""

from __future__ import annotations

import pytest

from drun.backends.trt.profiles import Profile, profile_of, profiles_for
from drun.errors import BackendUnavailable


@pytest.mark.parametrize(
    ("batch", "usual", "words"),
    [
        ((8, 8), 8, "8"),
        ((8, 16), 8, "8, 16"),
        ((1, 2), 8, "1, 2"),
        ((1, 64), 8, "8, 16, 1..64"),
        ((1, 12), 8, "8, 1..12"),
        ((1, 4), 8, "4, 1..4"),
        ((10, 64), 8, "10, 20, 10..64"),
    ],
)
def test_the_profiles_of_a_range(batch: tuple[int, int], usual: int, words: str) -> None:
    profiles = profiles_for(batch, usual)
    assert ", ".join(map(str, profiles)) == words
    assert all(profile.low <= profile.usual <= profile.high for profile in profiles)
    assert {profile_of(size, profiles) for size in batch} <= set(range(len(profiles)))


def test_the_static_profile_is_taken_where_there_is_one() -> None:
    profiles = profiles_for((1, 64))
    assert [profile_of(size, profiles) for size in (1, 8, 9, 16, 64)] == [2, 0, 2, 1, 2]


def test_a_batch_outside_every_profile() -> None:
    message = r"a call of 12 images fits no profile of the plan: --batch can be 8, 16$"
    with pytest.raises(BackendUnavailable, match=message):
        profile_of(12, (Profile(8, 8, 8), Profile(16, 16, 16)))
