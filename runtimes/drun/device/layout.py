"""The numbers of a walk in the layout in which `step.cu` reads them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.table import StepTable

#: The columns of a row, as in the enum of the kernel; the weights of earlier estimates follow.
COLUMNS = ("t", "p", "q", "a", "b", "c", "w", "log_std_slope", "log_std_offset")
#: Threads of a block, and the numbers of a sample that a thread computes: as many as Philox gives at once.
THREADS, PER_THREAD = 128, 4


class Walk(ctypes.Structure):
    """The kernel's struct of the same name; pointers are addresses of the device, 0 is none."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("table", "draws", "samples", "uploaded", "output", "x", "t", "history")),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("rows", "history_length", "slots", "clips")),
        *((name, ctypes.c_int32) for name in ("count", "channels", "out_channels", "guided_channels", "pixels")),
    )


class Position(ctypes.Structure):
    """The kernel's struct of the same name: what changes from row to row."""

    _fields_ = (("row", ctypes.c_int32), ("not_finite", ctypes.c_int32))


#: before the first row
BEGINNING = Position(-1, 0)


def num_blocks(numbers: int) -> int:
    """How many blocks compute the numbers of a sample. A draw can begin and end within the four words of a thread."""
    return -(-(numbers // PER_THREAD + 2) // THREADS)


@dataclass(frozen=True)
class Table:
    """The rows of a step table for a device. R rows, H earlier estimates."""

    columns: NDArray[np.float32]  # (R, 9 + H), see COLUMNS
    draws: NDArray[np.int32]  # (R,) the number of a row's draw in the streams of its samples; 0: none
    is_guided: tuple[bool, ...]  # of each row: whether the network is called twice

    @property
    def num_draws(self) -> int:
        return int(np.count_nonzero(self.draws))


def table_for_device(table: StepTable, has_labels: bool, first_draw: int = 1) -> Table:
    """Cast a table to what the kernel computes in.

    Args:
        has_labels: whether rows can be guided.
        first_draw: the number of the first z in the streams; 0 is the initial x.
    """
    columns = table.columns()
    w = columns.w if has_labels else np.ones_like(columns.w)
    low, high = columns.log_variance.T
    # exp((f high + (1 - f) low) / 2), f = (v + 1) / 2, is exp(slope v + offset); both are NaN if it is not learned.
    named = {"w": w, "log_std_slope": 0.25 * (high - low), "log_std_offset": 0.25 * (high + low)}
    by_name = [named[name] if name in named else getattr(columns, name) for name in COLUMNS]
    draws = np.where(columns.noisy, first_draw + np.cumsum(columns.noisy) - 1, 0)
    return Table(
        np.column_stack([*by_name, *columns.d.T]).astype(np.float32),
        draws.astype(np.int32),
        tuple((w != 1).tolist()),
    )
