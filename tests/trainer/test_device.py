import pytest
import torch

from drun.errors import ConfigError
from dtrain import device


def test_auto_takes_the_best_device_and_says_why() -> None:
    placement = device.choose("auto", "auto", "auto")
    assert placement.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = placement.device.type == "cuda"
    assert placement.compile == on_gpu
    assert placement.precision == ("bf16" if on_gpu else "fp32")
    assert len(placement.reasons) == 3


def test_settings_win_over_the_automatic_choice() -> None:
    placement = device.choose("cpu", "bf16", "on")
    assert placement.precision == "bf16"
    assert placement.compile
    assert any(reason.startswith("bf16: as set; attention is computed in parts") for reason in placement.reasons)


def test_unknown_and_absent_devices_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown device 'tpu': choose one of auto, cpu, cuda, mps"):
        device.choose("tpu", "auto", "auto")
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="this machine has no mps device"):
            device.choose("mps", "auto", "auto")


def test_fp16_needs_cuda() -> None:
    with pytest.raises(ConfigError, match="fp16 is trained with a scaled loss, which needs CUDA, got cpu: use bf16"):
        device.choose("cpu", "fp16", "off")
