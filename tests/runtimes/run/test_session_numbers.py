"""Numbers that programs give a session: whole where they count something, and within what can be computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drun
from drun.errors import ConfigError
from drun.settings import RuntimeOptions


@pytest.mark.parametrize("name", ["n", "batch", "seed", "first", "steps"])
@pytest.mark.parametrize("value", [-1, 2**80, 1.5, "3", None])
def test_what_is_not_a_count_is_refused(make_bundle: Callable[..., Path], name: str, value: Any) -> None:
    with (
        drun.load(make_bundle()).session("null") as session,
        pytest.raises(ConfigError, match=rf"^{name} got .*, expected a whole number from [01] to "),
    ):
        session.sample(**{name: value})


def test_whole_numbers_of_numpy_are_counts(make_bundle: Callable[..., Path]) -> None:
    with drun.load(make_bundle()).session("null") as session:
        images = session.sample(np.int64(2), steps=np.int32(3), seed=np.uint64(2**64 - 1), batch=np.int8(1))
        assert images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize("interval", [(), (0,), (0, 1, 2), (0, float("nan"))])
def test_an_interval_is_two_times(make_bundle: Callable[..., Path], interval: Any) -> None:
    bundle = drun.load(make_bundle(conditional=True))
    with bundle.session("null") as session, pytest.raises(ConfigError, match=r"--interval got .*expected two finite"):
        session.sample(1, steps=2, cfg=2, interval=interval)


@pytest.mark.parametrize("threads", [-1, 257, 10**6, 1.5, "4"])
def test_threads_are_as_many_as_a_processor_may_have(threads: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--threads got .*, expected a whole number from 0 to 256$"):
        RuntimeOptions(threads)
