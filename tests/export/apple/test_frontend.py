"""What Core ML's converter reads wrongly is rewritten before it, or refused: each is converted and computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from coreml_packages import Function, executor_of
from torch import Tensor
from torch.nn import functional as F

from dexport.apple import conversion
from dexport.apple.frontend import exported
from drun.errors import ExportError
from drun.mil.executor import Executor
from drun.mil.package import Package

X = torch.linspace(-3, 3, 24).reshape(1, 2, 3, 4)


def computed(
    function: Callable[[Tensor], Tensor], x: Tensor, folder: Path, system: int = 18
) -> tuple[Tensor, list[str]]:
    """A function, converted and computed by our executor, and its operations."""
    executor = executor_of(Function(function), [x], folder, "fp32", system, "ideal")
    return torch.from_numpy(executor.run({"x": x.numpy()})["out"]), [one.operator.name for one in executor.instructions]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.add(x, x * x, alpha=5),
        lambda x: torch.sub(x, x * x, alpha=0.25),
        lambda x: torch.sub(x, 3.0, alpha=2),
        lambda x: torch.rsub(x, 2.0, alpha=3),
        lambda x: torch.rsub(x, x * x, alpha=3),
        lambda x: 1.0 / (x * x + 1e-3),
        lambda x: (x * x + 1e-4).reciprocal(),
        lambda x: 2.0**x,
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.gelu(x),
        lambda x: F.rms_norm(x, (4,)),
        lambda x: F.rms_norm(x, (3, 4), eps=1e-3),
        lambda x: F.scaled_dot_product_attention(x, x + 1, x - 1, scale=0.5),
        lambda x: F.scaled_dot_product_attention(x, x + 1, x - 1, scale=0.3),
        lambda x: F.scaled_dot_product_attention(x, x + 1, x - 1),
        lambda x: F.normalize(x, dim=1),
        lambda x: F.silu(x) + F.softplus(x),
        lambda x: torch.rsqrt(x * x * 1e-10 + 1e-5),
        lambda x: -1.0 / (x - 0.1),
        lambda x: F.elu(x, 0.5) + x.var(1, keepdim=True) + x.mean((1, 3), keepdim=True),
        lambda x: torch.minimum(x, -x) + torch.where(torch.logical_or(x > 1, x < -1), x, -x),
        lambda x: torch.where(torch.logical_and(x >= -1, torch.logical_not(x <= 1)), x, -x),
        lambda x: torch.where(x.round().eq(1), x, -x) + torch.where(x.round().ne(0), x, 3 * x),
        lambda x: torch.full_like(x, 2.5) * x + torch.arange(4) + torch.ones(3, 4, dtype=torch.int64),
        lambda x: F.interpolate(x, scale_factor=2.0) + F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        lambda x: F.avg_pool2d(x, 2, padding=1, count_include_pad=False),
    ],
)
def test_it_computes_what_torch_does(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    found, _ = computed(function, X, tmp_path)
    expected = function(X)
    assert torch.linalg.norm(found - expected) < 2e-6 * torch.linalg.norm(expected)


def test_attention_is_one_operation_from_ios_18_on(tmp_path: Path) -> None:
    """Whatever its scale; before it is in parts."""

    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, scale=0.5)

    _, operations = computed(attend, X, tmp_path)
    assert "scaled_dot_product_attention" in operations
    (tmp_path / "old").mkdir()
    _, operations = computed(attend, X, tmp_path / "old", 17)
    assert {"matmul", "softmax"} <= {*operations}


def test_the_converter_alone_is_wrong(tmp_path: Path) -> None:
    """The reason for all of this: without the rewriting these are not what torch computes."""
    import coremltools as ct

    for name, function in {
        "alpha": lambda x: torch.add(x, x * x, alpha=5),
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
    }.items():
        with conversion.quiet():
            program = torch.export.export(Function(function), (X,)).run_decompositions({})
            model = ct.convert(
                program,
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT32,
                skip_model_load=True,
            )
            model.save(str(tmp_path / f"{name}.mlpackage"))
        (found,) = Executor(Package(tmp_path / f"{name}.mlpackage"), mode="ideal").run({"x": X.numpy()}).values()
        assert np.abs(found - function(X).numpy()).max() > 1e-5, name


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: (-2.0) ** x, r"raises -2 to a power"),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
            r"attention with dropout, a causal mask or",
        ),
        (
            lambda x: x if x.sum() > 0 else -x,
            r"PyTorch does not trace the network: .*; rewrite it without what depends",
        ),
    ],
)
def test_what_cannot_be_rewritten_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ExportError, match=message) as found:
        exported(Function(function), [X])
    assert "\n" not in str(found.value)


def test_the_tanh_form_of_gelu_is_one_operation(tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        function = Function(lambda x: F.gelu(x, approximate="tanh"))
        executor = executor_of(function, [X], tmp_path, precision)
        assert [one.operator.name for one in executor.instructions if one.operator.name != "cast"] == ["gelu"]
        (tmp_path / "a.mlpackage").rename(tmp_path / precision)
