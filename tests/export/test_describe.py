"""Manifests say what the checkpoint means."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformer_bundles import describe, golden_calls, golden_of, graph_of, shape_of, write

from drun.bundle.card import Classes, Sampler
from drun.bundle.reading import Bundle
from drun.diffusion.process.flow import FlowProcess
from dtrain.published import Denoiser


def test_the_manifest_says_what_the_checkpoint_means(sit_bundle: Bundle, sit: Denoiser) -> None:
    m = sit_bundle.manifest
    assert m.model.name == "SiT"
    assert m.process == {"kind": "flow", "path": "linear", "noise_time": 0, "margin": 0.0}
    assert (m.prediction, m.variance, m.time["kind"]) == ("velocity", None, "flow")
    assert (m.classes, m.guidance) == (Classes(10, 10), {"channels": 3})
    assert (m.data.space, m.data.shape, m.data.latent) == ("latent", (4, 8, 8), sit.card.data.latent)
    assert m.sampler == Sampler("euler_maruyama", {"form": "sit"})
    assert m.decoder is None
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in m.artifacts[0].io] == [
        ("x", "float32", ("N", 4, 8, 8)), ("t", "float32", ("N",)), ("y", "int64", ("N",)),
        ("out", "float32", ("N", 4, 8, 8)),
    ]  # fmt: skip
    assert m.artifacts[0].io[1].meaning == "time, 0 at the noise and 1 at the data"
    assert m.artifacts[0].io[2].meaning == "class, 0 to 9, or 10 for none"


def test_a_learned_variance_doubles_the_output(dit_bundle: Bundle) -> None:
    m = dit_bundle.manifest
    assert (m.variance, m.card.output_shape, m.artifacts[0].io[-1].shape) == (
        "learned_range",
        (8, 8, 8),
        ("N", 8, 8, 8),
    )
    assert m.artifacts[0].io[-1].meaning == "noise, then in as many channels the variance (learned_range)"
    assert (m.time["kind"], m.artifacts[0].io[1].meaning) == ("index", "time index, 999 at the noise and 0 at the data")
    assert shape_of(graph_of(dit_bundle).output[0]) == ["batch", 8, 8, 8]


def test_an_unconditional_network_has_no_labels(build_small: Any, sit_checkpoint: Path, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=0, channels=1)
    bundle = write(describe(network, process=FlowProcess("cosine")), sit_checkpoint, tmp_path / "b", (2, 2))
    assert [tensor.name for tensor in bundle.manifest.artifacts[0].io] == ["x", "t", "out"]
    assert [value.name for value in graph_of(bundle).input] == ["x", "t"]
    assert (bundle.manifest.data.space, bundle.manifest.classes) == ("pixel", None)
    assert bundle.manifest.artifacts[0].io[1].meaning == "time, 1 at the noise and 0 at the data"
    arrays, spec = golden_of(bundle)
    assert not [key for key in arrays if key.endswith(".y")]
    assert {each["settings"]["cfg"] for each in spec["trajectories"]} == {1.0}
    # The first state is at the noise end already.
    assert spec["calls"][::2] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.02])


def test_a_network_without_a_null_label_is_not_guided(build_small: Any, tmp_path: Path) -> None:
    network = build_small("SiT", num_classes=2, null_class=False)
    golden = golden_calls(describe(network, classes=Classes(2, None)), tmp_path / "golden.npz")
    spec = json.loads(str(golden["spec"]))
    assert {each["settings"]["cfg"] for each in spec["trajectories"]} == {1.0}
    assert set(np.concatenate([golden[key] for key in golden if key.endswith(".y")]).tolist()) == {0, 1}
