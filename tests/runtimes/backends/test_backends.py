"""The registry of backends."""

from __future__ import annotations

import pytest
from openings import on

from drun import backends
from drun.backends import ort
from drun.bundle.reading import Bundle
from drun.errors import ConfigError


def test_the_files_are_the_registry() -> None:
    assert {"null", "ort"} <= set(backends.names())
    assert all(issubclass(backends.load(name), backends.Backend) for name in backends.names())
    assert all(backends.load(name).summary for name in backends.names())


def test_unknown_backend_is_refused_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"unknown backend 'tpu': choose one of ort, .*null"):
        on("tpu", bundle)


def test_probe_of_what_is_installed() -> None:
    probe = ort.Runtime.probe()
    assert probe.available
    assert probe.detail.startswith("onnxruntime 1.")
