"""Bundles of small transformers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from exporting import export
from torch import nn

from dexport import fixtures
from dexport.proof import full_proof
from dexport.writer.create import Trained
from drun.bundle import reading as bundles
from drun.bundle.card import Card, Sampler, StateSpace
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.process.flow import FlowProcess
from dtrain.published import Denoiser

BATCH = (1, 8)


FLOW = Sampler("euler_maruyama", {"form": "repa"})


def write(denoiser: Denoiser, checkpoint: Path, out: Path, batch: tuple[int, int] = BATCH) -> Bundle:
    export(Trained(denoiser, checkpoint), out, "onnx", batch, full_proof(4))
    return bundles.read(out)


def describe(network: nn.Module, **changes: Any) -> Denoiser:
    """A flow of pixels, unless changed."""
    card = Card(FlowProcess(), "velocity", StateSpace.of(network.state_shape(0)), sampler=FLOW)
    return Denoiser(network, network.config, replace(card, **changes), 1, "ema", ())


def graph_of(bundle: Bundle) -> Any:
    model = onnx.load(bundle.path / "denoiser.fp32.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model.graph


def shape_of(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def golden_of(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = dict(np.load(bundle.path / "golden.npz"))
    return arrays, json.loads(str(arrays.pop("spec")))


def golden_calls(denoiser: Denoiser, path: Path) -> dict[str, Any]:
    fixtures.write_golden(path, denoiser, full_proof(2), silent)
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays}
