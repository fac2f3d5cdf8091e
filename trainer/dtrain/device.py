"""Chooses the device and the precision of a training run, with reasons to print."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from drun.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
#: What a precision brings with it, by device.
NOTES = {
    ("cuda", "fp32"): "; PyTorch computes its convolutions in tf32",
    ("cpu", "bf16"): "; attention is computed in parts, whose gradient takes less time in it",
}


@dataclass(frozen=True)
class Placement:
    device: torch.device
    precision: str  # fp32 | bf16 | fp16: the precision of autocast; weights stay float32
    compile: bool
    reasons: tuple[str, ...]


def choose(device: str, precision: str, compile: str) -> Placement:
    """Resolve `auto` settings.

    Args:
        device: auto, cpu, cuda or mps. precision: auto, fp32, bf16 or fp16. compile: auto, on or off.

    Raises:
        ConfigError: an unknown device, or one that this machine lacks, or fp16 where it cannot be trained.
    """
    found = _device(device)
    chosen, why_precision = _precision(found, precision)
    compiled, why_compile = _compile(found, compile)
    return Placement(found, chosen, compiled, (f"device {found.type}", why_precision, why_compile))


def _device(name: str) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if name not in present:
        raise ConfigError(f"unknown device '{name}': choose one of {', '.join(DEVICES)}")
    if not present[name]:
        raise ConfigError(f"this machine has no {name} device: use --device auto")
    # Each of several processes on one machine has its own GPU.
    return torch.device(name, int(os.environ.get("LOCAL_RANK", 0))) if name == "cuda" else torch.device(name)


def _precision(device: torch.device, precision: str) -> tuple[str, str]:
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"fp16 is trained with a scaled loss, which needs CUDA, got {device.type}: use bf16 or fp32")
    if precision != "auto":
        return precision, f"{precision}: as set{NOTES.get((device.type, precision), '')}"
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bf16", "bf16 autocast: this GPU multiplies it faster, and it has float32's range"
    return "fp32", f"fp32: bf16 gains nothing sure on {device.type}, --set train.precision=bf16 forces it"


def _compile(device: torch.device, compile: str) -> tuple[bool, str]:
    if compile != "auto":
        return compile == "on", f"torch.compile {compile}: as set"
    if device.type == "cuda":
        return True, "torch.compile on: fuses norms and activations on the GPU"
    return False, (
        f"torch.compile off: on {device.type} it takes minutes and the convolutions, most of the time, are library "
        "calls either way; --set train.compile=on forces it"
    )
