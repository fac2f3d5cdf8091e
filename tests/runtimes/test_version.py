"""The version is that of the installed distribution, and every package has it."""

from __future__ import annotations

from importlib import import_module, metadata
from pathlib import Path

import pytest

from drun import version

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_it_is_the_projects() -> None:
    assert f'\nversion = "{version.version()}"\n' in PYPROJECT.read_text()


def test_a_distribution_that_is_not_installed_has_none() -> None:
    assert version.version("dexport-that-nobody-installed") == "unknown"


@pytest.mark.parametrize("package", ["drun", "dtrain", "dexport", "dbench"])
def test_packages_have_it_and_no_other_attribute(package: str) -> None:
    module = import_module(package)
    assert module.__version__ == metadata.version("dexport")
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'elsewhere'"):
        module.elsewhere  # noqa: B018
