"""The matrix rate of a device, and the wait for its work."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The side of the matrices, and how many products in a row keep a device busy for about a tenth of a second: in less
#: a GPU does not yet lower its clock, as it does in longer work.
MATMUL_SIDE, MATMULS = {"cuda": 8192, "mps": 4096, "cpu": 1024}, {"cuda": 64, "mps": 8, "cpu": 8}


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Matmuls:
    """Products of large square matrices of N(0, 1), whose rate is the most that a device does in a precision.

    Args:
        precision: fp32, bf16 or fp16; products of fp32 as `torch.get_float32_matmul_precision` says.
    """

    def __init__(self, device: torch.device, precision: str) -> None:
        self.device, self.side = device, MATMUL_SIDE[device.type]
        self.a, self.b = (torch.randn(self.side, self.side, device=device).to(DTYPES[precision]) for _ in "ab")
        self.out = torch.empty_like(self.a)
        self.products = MATMULS[device.type]
        self.flops = self.products * 2 * self.side**3

    def __call__(self) -> None:
        """A burst of `flops` operations, from an idle device to an idle device."""
        for _ in range(self.products):
            torch.mm(self.a, self.b, out=self.out)
        synchronise(self.device)
