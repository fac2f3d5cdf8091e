"""The files that a run writes, and their places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drun.run.images import image_path
from drun.settings import DEFAULT_BATCH


@dataclass(frozen=True)
class Output:
    """The images to compute, and the folder to write them to."""

    folder: Path
    num_images: int
    batch: int = DEFAULT_BATCH
    shard: tuple[int, int] = (0, 1)
    save_raw: bool = False  # also keep the final float states
    save_images: bool = True
    trajectory: Path | None = None

    def paths(self, index: int) -> list[Path]:
        """The files of a finished sample."""
        image = [image_path(self.folder, index)] if self.save_images else []
        return image + ([raw_path(self.folder, index)] if self.save_raw else [])


def raw_path(folder: Path, index: int) -> Path:
    """The final state of a sample."""
    return folder / "raw" / f"{index:06d}.npz"
