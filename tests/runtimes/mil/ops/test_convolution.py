"""Convolutions, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

RNG = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def t(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


X, W, B = array(2, 4, 9, 8), array(6, 4, 3, 3), array(6)
X1, W1 = array(2, 4, 11), array(6, 2, 3)
X3, W3 = array(1, 2, 4, 5, 6), array(3, 2, 2, 3, 2)
DEPTH = array(4, 1, 3, 3)
UP, GROUPED_UP = array(4, 5, 3, 3), array(4, 3, 2, 2)


def same(x: Array, stride: int, lower: bool = False) -> torch.Tensor:
    """Padding by hand: as much as keeps ceil(size / stride), the odd one at the end."""
    pads = []
    for side in reversed(x.shape[2:]):
        extra = max(0, (-(-side // stride) - 1) * stride + 3 - side)
        pads += [extra - extra // 2, extra // 2] if lower else [extra // 2, extra - extra // 2]
    return F.conv2d(F.pad(t(x), pads), t(W), stride=stride)


CASES = [
    Case("conv", lambda mb, a: mb.conv(x=a, weight=W, bias=B), [X], lambda x: F.conv2d(t(x), t(W), t(B))),
    Case(
        "conv with padding",
        lambda mb, a: mb.conv(x=a, weight=W, pad_type="custom", pad=[1, 2, 0, 3]),
        [X],
        lambda x: F.conv2d(F.pad(t(x), [0, 3, 1, 2]), t(W)),
    ),
    Case(
        "conv with strides and dilations",
        lambda mb, a: mb.conv(x=a, weight=W, strides=[2, 1], dilations=[1, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        [X],
        lambda x: F.conv2d(t(x), t(W), stride=(2, 1), dilation=(1, 2), padding=1),
    ),
    *(
        Case(
            f"conv, same, stride {stride}",
            lambda mb, a, s=stride: mb.conv(x=a, weight=W, strides=[s, s], pad_type="same"),
            [X],
            lambda x, s=stride: same(x, s),
        )
        for stride in (1, 2, 3)
    ),
    Case(
        "conv, same_lower",
        lambda mb, a: mb.conv(x=a, weight=W, strides=[2, 2], pad_type="same_lower"),
        [X],
        lambda x: same(x, 2, lower=True),
    ),
    Case(
        "conv of one axis in groups",
        lambda mb, a: mb.conv(x=a, weight=W1, groups=2),
        [X1],
        lambda x: F.conv1d(t(x), t(W1), groups=2),
    ),
    Case("conv of three axes", lambda mb, a: mb.conv(x=a, weight=W3), [X3], lambda x: F.conv3d(t(x), t(W3))),
    Case(
        "conv, depthwise",
        lambda mb, a: mb.conv(x=a, weight=DEPTH, groups=4, pad_type="custom", pad=[1, 1, 1, 1]),
        [X],
        lambda x: F.conv2d(t(x), t(DEPTH), groups=4, padding=1),
    ),
    Case(
        "conv_transpose",
        lambda mb, a: mb.conv_transpose(x=a, weight=UP),
        [X],
        lambda x: F.conv_transpose2d(t(x), t(UP)),
    ),
    Case(
        "conv_transpose with strides and padding",
        lambda mb, a: mb.conv_transpose(
            x=a, weight=UP, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], bias=np.arange(5, dtype=np.float32)
        ),
        [X],
        lambda x: F.conv_transpose2d(t(x), t(UP), torch.arange(5.0), stride=2, padding=1),
    ),
    Case(
        "conv_transpose with an output shape",
        lambda mb, a: mb.conv_transpose(
            x=a, weight=UP, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], output_shape=[2, 5, 18, 16]
        ),
        [X],
        lambda x: F.conv_transpose2d(t(x), t(UP), stride=2, padding=1, output_padding=1),
    ),
    Case(
        "conv_transpose in groups",
        lambda mb, a: mb.conv_transpose(x=a, weight=GROUPED_UP, strides=[2, 2], groups=2),
        [X],
        lambda x: F.conv_transpose2d(t(x), t(GROUPED_UP), stride=2, groups=2),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("convolution"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])
