"""Where and in which precision training runs, each with the reason that is printed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from drun.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Placement:
    device: torch.device
    bf16: bool
    compile: bool
    reasons: tuple[str, ...]


def choose(device: str, precision: str, compile: str) -> Placement:
    """Resolve `auto` settings.

    Args:
        device: auto, cpu, cuda or mps. precision: auto, fp32 or bf16. compile: auto, on or off.

    Raises:
        ConfigError: an unknown device, or one that this machine lacks.
    """
    found = _device(device)
    bf16, why_precision = _bf16(found, precision)
    compiled, why_compile = _compile(found, compile)
    return Placement(found, bf16, compiled, (f"device {found.type}", why_precision, why_compile))


def _device(name: str) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "mps" if present["mps"] else "cpu")
    if name not in present:
        raise ConfigError(f"unknown device '{name}': choose one of {', '.join(DEVICES)}")
    if not present[name]:
        raise ConfigError(f"this machine has no {name} device: use --device auto")
    return torch.device(name)


def _bf16(device: torch.device, precision: str) -> tuple[bool, str]:
    if precision != "auto":
        return precision == "bf16", f"{precision}: as set"
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return True, "bf16 autocast: this GPU multiplies it faster, and it has float32's range"
    return False, f"fp32: bf16 gains nothing sure on {device.type}, --set train.precision=bf16 forces it"


def _compile(device: torch.device, compile: str) -> tuple[bool, str]:
    if compile != "auto":
        return compile == "on", f"torch.compile {compile}: as set"
    if device.type == "cuda":
        return True, "torch.compile on: fuses norms and activations on the GPU"
    return False, (
        f"torch.compile off: on {device.type} it takes minutes and the convolutions, most of the time, are library "
        "calls either way; --set train.compile=on forces it"
    )
