"""Tiny recipes to time."""

from __future__ import annotations

from dtrain import device

CPU = device.choose("cpu", "fp32", "off")


TINY_SIT = (
    "model.size={hidden_size=16,depth=3,num_heads=2}", "train.batch_size=4", "objective.projector_width=20",
)  # fmt: skip


TINY_UNET = ("model.dim=8", "model.dim_mults=[1,2]", "train.batch_size=4")
