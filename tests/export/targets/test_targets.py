"""The folder of targets is the registry: names, help, sources and precisions are read from the files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dexport import targets
from drun import backends
from drun.errors import ConfigError

FILES = sorted(Path(path) for path in Path(str(targets.__file__)).parent.glob("[!_]*.py"))


def test_the_files_are_the_registry() -> None:
    assert targets.names() == [path.stem for path in FILES]
    assert {"onnx", "openvino", "pt2"} <= set(targets.names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_target_is_whole(path: Path) -> None:
    """A first line for the help, provers that there are, and one way to be made, of a network or of an artifact."""
    target = targets.load(path.stem)
    assert targets.summary(path.stem) == str(ast.get_docstring(ast.parse(path.read_text()))).splitlines()[0]
    for prover in target.PROVERS.values():
        assert prover in backends.names()
        assert path.stem in backends.load(prover).formats
    source = targets.source_of(path.stem)
    assert hasattr(target, "export") == (source is None)
    assert hasattr(target, "derive") == (source in targets.names())


def test_the_first_precision_is_the_default() -> None:
    for name in targets.names():
        known = targets.precisions(name)
        assert targets.chosen_precision(name, None) == known[0]
        assert [targets.chosen_precision(name, one) for one in known] == known


@pytest.mark.usefixtures("plugins")
def test_a_precision_names_the_targets_that_make_it() -> None:
    assert [targets.chosen_precision(name, None) for name in ("eager", "mirror")] == ["fp32", "fp32"]
    with pytest.raises(ConfigError, match=r"--precision got 'bf16', dexport mirror makes fp32, fp16: type .*eager"):
        targets.chosen_precision("mirror", "bf16")
    with pytest.raises(ConfigError, match=r"--precision got 'fp8', .*: no target here makes it"):
        targets.chosen_precision("mirror", "fp8")


@pytest.mark.usefixtures("plugins")
def test_a_target_that_makes_no_two_graphs_names_those_that_do() -> None:
    assert [targets.chosen_variant("onnx", "fp16", is_split) for is_split in (False, True)] == ["", "split"]
    assert targets.chosen_variant("eager", "fp32", False) == ""
    with pytest.raises(
        ConfigError, match=r"--split: dexport eager makes one graph only in fp32: leave it out or type dexport onnx or"
    ):
        targets.chosen_variant("eager", "fp32", True)
