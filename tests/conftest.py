"""One thread a test process: the nets are tiny, and pytest-xdist already uses the cores."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache; the commands that tests start inherit it."""
    os.environ["DEXPORT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
