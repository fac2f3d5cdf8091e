"""The sizes of transformers, and the checks of what they are built for and called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from drun.errors import ConfigError

#: The most numbers in the table of positions, and the most blocks. No published network comes near these limits, but a
#: damaged file may exceed them.
MAX_POSITIONS, MAX_DEPTH = 1 << 27, 1000


@dataclass(frozen=True)
class Size:
    """Width, number of blocks and attention heads (DiT, table 1)."""

    hidden_size: int
    depth: int
    num_heads: int


SIZES = {"S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16), "XL": Size(1152, 28, 16)}


def size_of(size: str | Mapping[str, int]) -> Size:
    """The size of a published name, or of a mapping of numbers. Raises ConfigError for anything else."""
    if isinstance(size, Mapping) and set(size) == set(Size.__annotations__):
        return Size(**size)
    if isinstance(size, str) and size in SIZES:
        return SIZES[size]
    expected = f"one of {', '.join(SIZES)} or a mapping of {', '.join(Size.__annotations__)}"
    raise ConfigError(f"model.size got {size!r}, expected {expected}")


def name_or_mapping(size: Size) -> str | dict[str, Any]:
    """The name of a published size, or the numbers of another."""
    return next((name for name, known in SIZES.items() if known == size), asdict(size))


def check_sizes(input_size: int, patch_size: int, size: Size) -> None:
    """Raises ConfigError for an input that is not a grid of patches, or a width that does not divide into heads."""
    if min(input_size, patch_size) < 1 or input_size % patch_size:
        raise ConfigError(
            f"the input is not a grid of patches: got side {input_size} and patch_size {patch_size}, expected a "
            "multiple of patch_size; change either"
        )
    for key, number in asdict(size).items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{key} got {number}, expected a whole number above 0: set it in size")
    if (input_size // patch_size) ** 2 * size.hidden_size > MAX_POSITIONS or size.depth > MAX_DEPTH:
        raise ConfigError(f"the network is too large: got side {input_size}, patches of {patch_size} and {size}")
    if size.hidden_size % size.num_heads or size.hidden_size % 4:
        raise ConfigError(
            f"hidden_size got {size.hidden_size} with {size.num_heads} heads, expected a multiple "
            "of num_heads and of 4: change either"
        )


def check_image(name: str, x: Tensor, channels: int, side: int) -> None:
    """Raises ConfigError unless x is (N, channels, side, side)."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (channels, side, side):
        raise ConfigError(
            f"the input does not fit {name}: got {tuple(x.shape)}, expected (N, {channels}, {side}, {side}); "
            "resize it or build the network for its size"
        )
