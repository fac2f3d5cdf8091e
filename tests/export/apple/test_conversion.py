"""Packages: names, types, the island of float32, functions that share their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dexport.apple.conversion import convert
from dexport.apple.frontend import exported
from dexport.apple.functions import join
from drun.errors import ExportError
from drun.mil.executor import Executor
from drun.mil.package import Package


class Waves(nn.Module):
    """A sinusoid of the time and a layer of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.register_buffer("frequencies", torch.exp(-torch.arange(32) / 32 * 9.2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return self.layer(x) + torch.cat([angles.sin(), angles.cos()], 1)


@pytest.fixture(scope="module")
def network() -> Waves:
    torch.manual_seed(0)
    return Waves().eval().requires_grad_(False)


def package(network: Waves, precision: str, sizes: list[int], folder: Path) -> Package:
    packages = {}
    for size in sizes:
        program = exported(network, [torch.zeros(size, 64), torch.zeros(size)])
        packages[f"batch_{size}"] = own = folder / f"{size}.mlpackage"
        convert(program, ["x", "t"], "out", precision, 18, own)
    join(packages, {"who": "a test"}, folder / "a.mlpackage")
    return Package(folder / "a.mlpackage")


def test_names_and_types(network: Waves, tmp_path: Path) -> None:
    """In fp16, too, floats come and go in float32."""
    found = package(network, "fp16", [1], tmp_path)
    executor = Executor(found)
    assert {name: str(type) for name, type in executor.inputs.items()} == {"x": "fp32 (1, 64)", "t": "fp32 (1,)"}
    assert {name: str(type) for name, type in executor.outputs.items()} == {"out": "fp32 (1, 64)"}
    assert found.metadata["who"] == "a test"


@pytest.mark.parametrize("t", [999.0, 500.0, 37.0, 0.0])
def test_times_keep_their_digits_in_fp16(network: Waves, tmp_path: Path, t: float) -> None:
    executor = Executor(package(network, "fp16", [1], tmp_path))
    x, times = torch.randn(1, 64), torch.full((1,), t)
    found = executor.run({"x": x.numpy(), "t": times.numpy()})["out"]
    np.testing.assert_allclose(found, network(x, times).numpy(), atol=4e-3)
    kinds = {one.operator.name: one.outputs[0][1].dtype for one in executor.instructions}
    assert (kinds["sin"], kinds["cos"], kinds["linear"]) == ("fp32", "fp32", "fp16")


def test_functions_of_several_batches_share_their_weights(network: Waves, tmp_path: Path) -> None:
    both = package(network, "fp32", [1, 2], tmp_path)
    assert (sorted(both.program.functions), both.default_function) == (["batch_1", "batch_2"], "batch_1")
    x, t = torch.randn(2, 64), torch.tensor([3.0, 700.0])
    for size in (1, 2):
        executor = Executor(both, f"batch_{size}", "ideal")
        found = executor.run({"x": x[:size].numpy(), "t": t[:size].numpy()})["out"]
        np.testing.assert_allclose(found, network(x, t)[:size].numpy(), rtol=1e-5, atol=1e-6)
    weights = both.path.parent / "weights" / "weight.bin"
    assert weights.stat().st_size < 1.5 * 4 * 64 * 64


@pytest.mark.parametrize("names", [["x", "t"], ["t", "x"], ["t", "other"]])
def test_inputs_have_the_names_they_are_given(names: list[str], tmp_path: Path) -> None:
    """Also where one gets the name that another one had."""

    class Difference(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return t - 2 * x

    first, second = torch.full((3,), 7.0), torch.tensor([1.0, 2.0, 3.0])
    convert(exported(Difference(), [first, second]), names, "out", "fp32", 18, tmp_path / "a.mlpackage")
    executor = Executor(Package(tmp_path / "a.mlpackage"))
    found = executor.run({names[0]: first.numpy(), names[1]: second.numpy()})["out"]
    np.testing.assert_array_equal(found, [5, 3, 1])


def test_a_result_with_the_name_of_an_input(tmp_path: Path) -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * x).exp()

    with pytest.raises(ExportError, match="the converter calls a result 'mul', as an input: rename the input"):
        convert(exported(Square(), [torch.zeros(3)]), ["mul"], "out", "fp32", 18, tmp_path / "a.mlpackage")


def test_what_fp16_does_not_hold_stays_in_float32(tmp_path: Path) -> None:
    """Also beside what stands for infinity."""

    class Smallest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bounds", torch.tensor([1e5, 2e38, 3.0]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.minimum(x, self.bounds)

    x = torch.tensor([7e4, 5.0, 5.0])
    convert(exported(Smallest(), [x]), ["x"], "out", "fp16", 18, tmp_path / "a.mlpackage")
    found = Executor(Package(tmp_path / "a.mlpackage")).run({"x": x.numpy()})["out"]
    np.testing.assert_array_equal(found, [7e4, 5, 3])


def test_what_the_converter_refuses_is_one_sentence(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 2, 2, 2, 2, 4).exp()

    with pytest.raises(ExportError, match=r"coremltools does not convert the network: Core ML only supports tensors"):
        convert(exported(Wide(), [torch.zeros(1, 64)]), ["x"], "out", "fp32", 18, tmp_path / "a.mlpackage")


def test_it_says_nothing(network: Waves, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package(network, "fp32", [1, 2], tmp_path)
    assert capfd.readouterr() == ("", "")
