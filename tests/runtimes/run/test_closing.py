"""A session that is closed: it draws no more, says so, and waits for who still draws."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import drun
from drun.errors import ConfigError

CLOSED = r"was closed, expected an open session: open another one$"


@pytest.mark.parametrize("backend", ["ort", "openvino", "null"])
def test_a_closed_session_is_refused(make_bundle: Callable[..., Path], backend: str) -> None:
    session = drun.load(make_bundle()).session(backend)
    session.sample(1, steps=2)
    session.close()
    with pytest.raises(ConfigError, match=CLOSED):
        session.sample(1, steps=2)
    with pytest.raises(ConfigError, match=CLOSED):
        session.opened.describe()
    session.close()


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_threads_that_draw_while_it_is_closed(make_bundle: Callable[..., Path], backend: str) -> None:
    session, errors, begun = drun.load(make_bundle()).session(backend), [], threading.Event()

    def draw() -> None:
        try:
            while True:
                session.sample(2, steps=20)
                begun.set()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    session.close()
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in errors] == [ConfigError] * 3
    assert all(str(error).endswith("open another one") for error in errors)
