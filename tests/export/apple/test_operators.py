"""The operators and arguments that the converter reads rightly; what it reads is computed in `test_frontend`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from coreml_packages import Function
from torch import Tensor
from torch.nn import functional as F

from dexport.apple import operators
from dexport.apple.frontend import exported
from drun.errors import ExportError

X = torch.linspace(-3, 3, 24).reshape(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.cumsum(x, 1), r"not known to read the operator cumsum rightly: write it by others"),
        (lambda x: x.triu(), r"not known to read the operator triu "),
        (lambda x: torch.pow(torch.tensor(2.0), x), r"not known to read the operator pow\.Tensor_Tensor"),
        (lambda x: torch.einsum("...i,...j->...ij", x, x), r"reads einsum wrongly with an ellipsis: rewrite it"),
        (lambda x: torch.div(x, 3.0, rounding_mode="floor"), r"not known to read the operator div\.Tensor_mode"),
        (lambda x: torch.ops.aten.elu(x, 1.0, 2.0), r"not known to read 'scale' of elu: rewrite it without"),
        (lambda x: F.softplus(x, 2.0, 1.0), r"not known to read 'threshold' of softplus"),
        (lambda x: x.std() * x, r"not known to read the operator std\.correction"),
        (lambda x: x.argmax(), r"reads argmax wrongly over all axes at once"),
        (lambda x: x.sum(1, dtype=torch.int32), r"reads sum\.dim_IntList wrongly in another type than its input's"),
        (lambda x: x.mean(1, dtype=torch.float16), r"reads mean\.dim wrongly in another type"),
        (lambda x: torch.full_like(x, 2.7, dtype=torch.int64), r"reads full_like wrongly as whole numbers of a fract"),
        (lambda x: x * torch.scalar_tensor(2.5, dtype=torch.int64), r"reads scalar_tensor wrongly as whole numbers"),
        (
            lambda x: F.instance_norm(x, torch.zeros(2), torch.ones(2), use_input_stats=False),
            r"reads instance_norm wrongly with running statistics",
        ),
        (
            lambda x: F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True),
            r"not known to read the operator _upsample_bilinear2d_aa",
        ),
    ],
)
def test_what_the_converter_is_not_known_to_read_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ExportError, match=message) as found:
        exported(Function(function), [X])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", sorted(operators.PLAIN | {*operators.READ}))
def test_each_is_an_operator_with_these_arguments(name: str) -> None:
    operator, _, overload = name.partition(".")
    schema = getattr(getattr(torch.ops.aten, operator), overload or "default")._schema
    optional = {one.name for one in schema.arguments if one.has_default_value()}
    assert {*operators.READ.get(name, "").split()} <= optional


def test_none_is_there_twice() -> None:
    assert not operators.PLAIN & {*operators.READ}
