"""Packages that become one: each function reads its own weights, and equal ones are there once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dexport.apple.conversion import convert, library, quiet
from dexport.apple.frontend import exported
from dexport.apple.functions import WEIGHTS, join
from drun.mil.executor import Executor
from drun.mil.package import Package


class Layers(nn.Module):
    """Two layers, of which the second can be another one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(32, 32)
        torch.manual_seed(seed)
        self.second = nn.Linear(32, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).relu())
        return out


def written(seed: int, size: int, path: Path) -> Path:
    convert(exported(Layers(seed).eval(), [torch.zeros(size, 32)]), ["x"], "out", "fp32", 18, path)
    return path


@pytest.fixture
def joined(tmp_path: Path) -> Package:
    """Functions "a" and "b" of one network, and "c", whose second layer differs."""
    parts = {"a": (1, 1), "b": (1, 3), "c": (2, 2)}
    packages = {name: written(*what, tmp_path / f"{name}.mlpackage") for name, what in parts.items()}
    join(packages, {"of": "a test"}, tmp_path / "all.mlpackage")
    return Package(tmp_path / "all.mlpackage")


@pytest.mark.parametrize(("name", "seed", "size"), [("a", 1, 1), ("b", 1, 3), ("c", 2, 2)])
def test_each_function_computes_its_own_network(joined: Package, name: str, seed: int, size: int) -> None:
    x = torch.randn(size, 32)
    found = Executor(joined, name, "ideal").run({"x": x.numpy()})["out"]
    np.testing.assert_allclose(found, Layers(seed)(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_equal_weights_are_there_once(joined: Package) -> None:
    matrix = 4 * 32 * 32
    size = (joined.folder / WEIGHTS).stat().st_size
    assert 3 * matrix < size < 3 * matrix + 1000  # the first layer, and two second ones


def test_it_says_what_it_is(joined: Package) -> None:
    assert joined.metadata["of"] == "a test"
    assert joined.default_function == "a"
    assert "com.github.apple.coremltools.version" in joined.metadata


def test_coremltools_reads_it(joined: Package) -> None:
    """By its own loader, which Apple's tools use to change packages, with all weights."""
    ct = library()
    from coremltools.converters.mil.frontend.milproto import load

    with quiet():
        model = ct.models.MLModel(str(joined.folder), skip_model_load=True, function_name="c")
        program = load.load(model.get_spec(), 9, model.weights_dir)
    weights = {
        name: operation.weight.val
        for name, function in program.functions.items()
        for operation in function.find_ops(op_type="linear")[-1:]
    }
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        np.testing.assert_array_equal(weights[name], Layers(seed).second.weight.detach().numpy())
    assert [one.name for one in model.get_spec().description.functions] == ["a", "b", "c"]


def test_others_may_read_it(joined: Package) -> None:
    """As far as the umask of this process lets them."""
    plain = joined.folder.with_name("plain")
    plain.touch()
    assert {path.stat().st_mode & 0o777 for path in joined.folder.rglob("*") if path.is_file()} == {
        plain.stat().st_mode & 0o777
    }


def test_one_package_stays_as_it_is(tmp_path: Path) -> None:
    join({"only": written(1, 1, tmp_path / "a.mlpackage")}, {"of": "a test"}, tmp_path / "b.mlpackage")
    found = Package(tmp_path / "b.mlpackage")
    assert ([*found.program.functions], found.metadata["of"]) == (["main"], "a test")
    assert not (tmp_path / "a.mlpackage").exists()
