"""The names of rows, which tables look up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowNames:
    """What everyone drew."""

    batch: int
    steps: int

    @property
    def title(self) -> str:
        return f"batch {self.batch}, {self.steps} steps"

    @property
    def rate(self) -> str:
        return f"matrix rate in bf16, {self.title}"

    def speed(self, way: str) -> str:
        return f"{way}, images a second, {self.title}"

    def share(self, way: str) -> str:
        return f"{way}, share of the matrix rate in bf16, {self.title}"

    def ratio(self, way: str) -> str:
        return f"{way}, times as fast as the papers' loop, {self.title}"

    def added(self, way: str) -> str:
        return f"{way}, above its bare network calls, {self.title}"

    def error(self, way: str) -> str:
        return f"{way}, relative L2 of its images to eager PyTorch in fp32, batch {self.batch}"
