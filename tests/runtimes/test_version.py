"""The version stands in the code, the installed distribution has it, and so has every package."""

from __future__ import annotations

from importlib import import_module, metadata

import pytest

from drun import version


def test_the_build_takes_it() -> None:
    assert version.version_of("dexport") == version.VERSION


def test_a_distribution_that_is_not_installed_has_none() -> None:
    assert version.version_of("dexport-that-nobody-installed") == "unknown"


@pytest.mark.parametrize("package", ["drun", "dtrain", "dexport", "dbench"])
def test_packages_have_it_and_no_other_attribute(package: str) -> None:
    module = import_module(package)
    assert module.__version__ == metadata.version("dexport")
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'elsewhere'"):
        module.elsewhere  # noqa: B018
