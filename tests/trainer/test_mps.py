"""What a Mac's GPU lacks: no step of training computes in float64 on the device."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from drun.console import silent
from dtrain import config
from dtrain.device import Placement
from dtrain.train.loop import train

#: What is made on the processor, wherever the network is: the table of positions, and the times of a batch.
ON_HOST = {"embeddings.py", "draws.py"}
SMALL = ["train.steps=2", "train.batch_size=8", "train.preview_every=2", "train.num_previews=4"]


class Float64(TorchDispatchMode):
    """Collects the files whose operations give float64."""

    def __init__(self) -> None:
        super().__init__()
        self.files: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(found)):
            own = [frame.filename for frame in traceback.extract_stack() if "/dtrain/" in frame.filename]
            self.files.add(Path(own[-1]).name if own else "elsewhere")
        return found


@pytest.mark.parametrize(("name", "on_host"), [("digits-unet", set()), ("digits-sit", ON_HOST)])
def test_no_step_is_in_float64(name: str, on_host: set[str], tmp_path: Path) -> None:
    placement = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())
    with Float64() as watch:
        train(config.load(name, SMALL), tmp_path / "run", placement, False, silent)
    assert watch.files == on_host
