"""Operations that move elements, against coremltools' own value inference and torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.mil.ops.shapes import depth_to_space, reshape, reshape_from_the_right, space_to_depth

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Y = -X
IMAGE = np.arange(2 * 8 * 4 * 6, dtype=np.float32).reshape(2, 8, 4, 6)
ONE = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)

CASES = [
    Case("reshape", lambda mb, a: mb.reshape(x=a, shape=[4, -1]), [X]),
    Case("reshape to a scalar's neighbour", lambda mb, a: mb.reshape(x=a, shape=[1, 24, 1]), [X]),
    Case("expand_dims", lambda mb, a: mb.expand_dims(x=a, axes=[0, -1]), [X]),
    Case("squeeze", lambda mb, a: mb.squeeze(x=mb.expand_dims(x=a, axes=[0, 2]), axes=[0]), [X], lambda x: x[:, None]),
    Case("squeeze of all", lambda mb, a: mb.squeeze(x=mb.expand_dims(x=a, axes=[0, 2])), [X], lambda x: x),
    Case("transpose", lambda mb, a: mb.transpose(x=a, perm=[2, 0, 1]), [X]),
    Case("transpose from behind", lambda mb, a: mb.transpose(x=a, perm=[-1, 0, -2]), [X]),
    Case("stack", lambda mb, a, b: mb.stack(values=(a, b), axis=1), [X, Y]),
    Case("concat", lambda mb, a, b: mb.concat(values=(a, b), axis=-1), [X, Y]),
    Case("concat of one", lambda mb, a: mb.concat(values=(a,), axis=0), [X], lambda x: x),
    Case(
        "concat, interleaved",
        lambda mb, a, b: mb.concat(values=(a, b), axis=1, interleave=True),
        [X, Y],
        lambda x, y: np.stack([x, y], 2).reshape(2, 6, 4),
        is_inferred=False,
    ),
    Case("split in equal parts", lambda mb, a: mb.split(x=a, axis=2, num_splits=2), [X]),
    Case("split by sizes", lambda mb, a: mb.split(x=a, axis=1, split_sizes=[1, 2]), [X]),
    Case("tile", lambda mb, a: mb.tile(x=a, reps=[1, 2, 3]), [X]),
    Case("reverse", lambda mb, a: mb.reverse(x=a, axes=[0, 2]), [X]),
    Case("reverse of all", lambda mb, a: mb.reverse(x=a), [X]),
    Case("flatten2d", lambda mb, a: mb.flatten2d(x=a, axis=2), [X]),
    Case("shape", lambda mb, a: mb.shape(x=a), [X]),
    Case("pad", lambda mb, a: mb.pad(x=a, pad=[1, 0, 2, 3], constant_val=np.float32(7)), [X]),
    Case(
        "pad, reflect",
        lambda mb, a: mb.pad(x=a, pad=[2, 1], mode="reflect"),
        [X],
        lambda x: np.pad(x, [(0, 0), (0, 0), (2, 1)], "reflect"),
    ),
    Case(
        "pad, replicate",
        lambda mb, a: mb.pad(x=a, pad=[2, 1], mode="replicate"),
        [X],
        lambda x: np.pad(x, [(0, 0), (0, 0), (2, 1)], "edge"),
    ),
    Case(
        "pixel_shuffle",
        lambda mb, a: mb.pixel_shuffle(x=a, upscale_factor=2),
        [IMAGE],
        lambda x: F.pixel_shuffle(torch.from_numpy(x), 2),
    ),
    Case(
        "pixel_unshuffle",
        lambda mb, a: mb.pixel_unshuffle(x=a, downscale_factor=np.uint32(2)),
        [IMAGE],
        lambda x: F.pixel_unshuffle(torch.from_numpy(x), 2),
    ),
    Case(
        "depth_to_space of one channel",
        lambda mb, a: mb.depth_to_space(x=a, block_size=2),
        [ONE],
        lambda x: F.pixel_shuffle(torch.from_numpy(x), 2),
    ),
    Case(
        "space_to_depth of one channel",
        lambda mb, a: mb.space_to_depth(x=a, block_size=2),
        [IMAGE[:, :1]],
        lambda x: F.pixel_unshuffle(torch.from_numpy(x), 2),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_moves_what_coremltools_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_zeros_of_reshape_by_opset() -> None:
    """Until iOS 16 at the same place, from iOS 17 on from the right."""
    assert reshape(X, (0, -1, 2)).shape == (2, 6, 2)
    with pytest.raises(ValueError, match="zeros need as many sides"):
        reshape(X, (0, -1))
    assert reshape_from_the_right(X, (-1, 0)).shape == (6, 4)
    assert reshape_from_the_right(X, (0, -1, 0, 0)).shape == (1, 2, 3, 4)


def test_an_order_of_channels_that_is_not_documented_is_refused() -> None:
    for wrong in (lambda: depth_to_space(IMAGE, 2), lambda: space_to_depth(IMAGE, 2)):
        with pytest.raises(ValueError, match=r"not documented, use pixel_(un)?shuffle"):
            wrong()


def test_reshape_like(tmp_path: Path) -> None:
    case = Case(
        "reshape_like",
        lambda mb, a, b: mb.reshape_like(x=a, ref_tensors=(b, b), begins=[0, 1], ends=[1, 3], end_masks=[False, False]),
        [X.reshape(6, 4), X],
        lambda x, y: x.reshape(2, 3, 4),
    )
    (found,) = run([case], tmp_path)
    check(case, found)
