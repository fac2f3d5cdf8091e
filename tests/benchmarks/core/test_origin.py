"""The network of a bundle, and how far a call is from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dbench.core.origin import denoiser_of, farthest
from drun.errors import ConfigError
from drun.run.golden import read_golden


def test_the_network_of_a_bundle_computes_its_golden_calls(model: Any) -> None:
    bundle, network = model.open(), denoiser_of(model.open(), model.checkpoint).network

    def denoise(x: Any, t: float, labels: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(x), torch.full((len(x),), t)).numpy()

    calls = read_golden(bundle).calls
    assert farthest(denoise, calls, 1e-5).passed
    wrong = farthest(lambda x, t, y: denoise(x, t, y) + (t == calls[1].t), calls, 1e-5)
    assert not wrong.passed
    assert wrong.name == f"t = {calls[1].t:g}"


def test_another_checkpoint_is_refused(model: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(model.checkpoint.read_bytes() + b"1")
    with pytest.raises(ConfigError, match=r"is not what 'tiny' was exported from: sha256 got .*, expected .*digits-"):
        denoiser_of(model.open(), other)
    with pytest.raises(ConfigError, match="no such checkpoint"):
        denoiser_of(model.open(), tmp_path / "absent.pt")
