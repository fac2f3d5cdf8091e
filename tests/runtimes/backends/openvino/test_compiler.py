"""Compiled graphs are kept in the cache and read again, unless they are damaged or large."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from irs import inputs, opened

from drun import cache
from drun.backends import null
from drun.backends.openvino import compiler
from drun.bundle.reading import Bundle
from drun.files import sha256


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The batches for which a graph is compiled anew."""
    sizes: list[int] = []
    compile_anew = compiler.Compiler._compile

    def compile_(self: compiler.Compiler, size: int, config: Any) -> Any:
        sizes.append(size)
        return compile_anew(self, size, config)

    with monkeypatch.context() as patch:
        patch.setattr(compiler.Compiler, "_compile", compile_)
        yield sizes


def test_a_compiled_graph_is_kept_and_read_again(bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = inputs(3)[:2]
    with counted(monkeypatch) as sizes:
        first = opened(bundle).predict(*call).copy()
        again = opened(bundle).predict(*call).copy()
        assert sizes == [3]
        opened(bundle).predict(*inputs(2)[:2])
        opened(bundle, threads=1).predict(*call)
        assert sizes == [3, 1, 3]  # two images are two halves
    np.testing.assert_array_equal(first, again)
    assert cached.stat().st_mode & 0o777 == 0o700
    assert [entry.what for entry in cache.entries()][-1] == "OpenVINO, onnx-fp32 in fp32, compiled for batches of 3"


@pytest.mark.parametrize("damage", ["byte", "cut", "whole"])
def test_what_is_damaged_in_the_cache_is_compiled_anew(
    bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """`whole`: rightly hashed, but nothing that OpenVINO reads."""
    call = inputs(3)[:2]
    expected = opened(bundle).predict(*call).copy()
    (blob,) = cached.glob("*/compiled.blob")
    content = blob.read_bytes()
    blob.write_bytes({"byte": content[:-1] + b"?", "cut": content[:99], "whole": b"hello" * 99}[damage])
    if damage == "whole":
        record = blob.with_name("entry.json")
        record.write_text(re.sub("[0-9a-f]{64}", sha256(blob), record.read_text()))
    with counted(monkeypatch) as sizes:
        np.testing.assert_array_equal(opened(bundle).predict(*call), expected)
    assert sizes == [3]


def test_without_a_cache_it_computes_all_the_same(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "file"))
    call = inputs(2)[:2]
    np.testing.assert_allclose(opened(bundle).predict(*call), null.Runtime(bundle).predict(*call), rtol=1e-5, atol=1e-6)


def test_a_large_graph_is_not_kept(bundle: Bundle, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "CACHED_BYTES", 100)
    opened(bundle).predict(*inputs(2)[:2])
    assert not cached.exists()
