"""The GPU memory that a training run needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GpuPeak:
    allocated_bytes: int
    reserved_bytes: int  # by PyTorch's allocator; `nvidia-smi` shows this and CUDA's own memory


class GpuScale:
    """Measures the memory of what is made after it, on a GPU that may hold idle runs. Other devices give no answer."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.held = self._empty() if device.type == "cuda" else (0, 0)

    def _empty(self) -> tuple[int, int]:
        """Release unused memory. Returns the allocated and the reserved bytes."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)

    def begin(self) -> None:
        """Forget the peaks until now."""
        if self.device.type == "cuda":
            self._empty()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> GpuPeak | None:
        """The peak since `begin`, without the memory of other runs."""
        if self.device.type != "cuda":
            return None
        allocated, reserved = self.held
        return GpuPeak(
            torch.cuda.max_memory_allocated(self.device) - allocated,
            torch.cuda.max_memory_reserved(self.device) - reserved,
        )
