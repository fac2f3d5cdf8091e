"""A comparison of networks of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import torch

from dtrain.checkpoints import ours as checkpoint

CPU = torch.device("cpu")


BOTH = (
    "model.size={hidden_size=8, depth=2, num_heads=2}", "train.batch_size=4", "train.log_every=1",
    "optimizer.warmup_steps=0", "optimizer.learning_rate=0.02", "ema.decay=0.1",
)  # fmt: skip


ALIGNED = ("objective.encoder_depth=1", "objective.projector_width=8")
TRIED = "objective.projector=conv objective.weight=2.0"


def tensors(path: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(path)
    return saved.model | {f"ema.{name}": tensor for name, tensor in saved.ema.items()}
