"""Real small bundles: the network is the denoiser of a Gaussian, which is known in closed form."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gaussians import CLASS_STEP, NUM_TIMESTEPS, STD, alphas_cumprod, slopes
from onnx import TensorProto, helper, numpy_helper

from drun.bundle import artifact as artifacts
from drun.bundle import card as cards
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.diffusion.noise import PhiloxNoise

SHAPE = (3, 8, 8)
NUM_CLASSES = 10


def exact_noise(x: np.ndarray, t: int, labels: np.ndarray | None) -> np.ndarray:
    """E[eps | x_t] of Gaussian images, float64: sigma (x - alpha mean) / (alpha^2 STD^2 + sigma^2)."""
    abar = alphas_cumprod()[t]
    mean = 0.0 if labels is None else CLASS_STEP * labels.reshape(-1, 1, 1, 1)
    return np.sqrt(1 - abar) * (x - np.sqrt(abar) * mean) / (abar * STD**2 + 1 - abar)


def ddim_trajectory(x: np.ndarray, times: Sequence[int], labels: np.ndarray | None) -> np.ndarray:
    """DDIM (Song et al. 2021, eq. 12) with eta = 0 and clipped x0, float64."""
    abars = alphas_cumprod()
    for t, abar_previous in zip(times, [*abars[list(times[1:])], 1.0], strict=True):
        abar = abars[t]
        x0 = (x - np.sqrt(1 - abar) * exact_noise(x, t, labels)) / np.sqrt(abar)
        x0 = x0.clip(-1, 1)
        eps = (x - np.sqrt(abar) * x0) / np.sqrt(1 - abar)
        x = np.sqrt(abar_previous) * x0 + np.sqrt(1 - abar_previous) * eps
    return x


def gaussian_onnx(batch: int | str, conditional: bool, gain: float = 1.0) -> onnx.ModelProto:
    """`exact_noise` as a graph, times `gain`: the factors of each timestep are looked up in tables."""
    tables = {"slopes": slopes(gain), "alphas": np.sqrt(alphas_cumprod()), "class_step": np.array([CLASS_STEP])}
    constants = [numpy_helper.from_array(table.astype(np.float32), name) for name, table in tables.items()]
    constants.append(numpy_helper.from_array(np.array([-1, 1, 1, 1]), "per_image"))
    node = helper.make_node
    nodes = [
        node("Cast", ["t"], ["index"], to=TensorProto.INT64),
        node("Gather", ["slopes", "index"], ["slope_of_t"]),
        node("Reshape", ["slope_of_t", "per_image"], ["slope"]),
        node("Mul", ["centred" if conditional else "x", "slope"], ["out"]),
    ]
    image, inputs = [batch, *SHAPE], {"t": (TensorProto.FLOAT, [batch])}
    if conditional:
        inputs["y"] = (TensorProto.INT64, [batch])
        nodes[:0] = [
            node("Cast", ["t"], ["position"], to=TensorProto.INT64),
            node("Gather", ["alphas", "position"], ["alpha"]),
            node("Cast", ["y"], ["label"], to=TensorProto.FLOAT),
            node("Mul", ["label", "class_step"], ["mean"]),
            node("Mul", ["mean", "alpha"], ["shift_flat"]),
            node("Reshape", ["shift_flat", "per_image"], ["shift"]),
            node("Sub", ["x", "shift"], ["centred"]),
        ]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)]
    infos += [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, image)
    graph = helper.make_graph(nodes, "gaussian", infos, [out], constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return model


def write_golden(path: Path, conditional: bool) -> None:
    """The references, from the closed form in float64: single calls and one trajectory."""
    rng, arrays = np.random.default_rng(0), {}
    calls = [(1, 0), (3, 50), (2, NUM_TIMESTEPS - 1)]
    for i, (size, t) in enumerate(calls):
        x = rng.standard_normal((size, *SHAPE)).astype(np.float32)
        labels = np.arange(size) + 1 if conditional else None
        arrays |= {f"call{i}.x": x, f"call{i}.t": np.float32(t)}
        arrays |= {} if labels is None else {f"call{i}.y": labels}
        arrays[f"call{i}.out"] = exact_noise(x.astype(np.float64), t, labels).astype(np.float32)
    indices, num_steps = [0, 5, 3], 5
    x = PhiloxNoise(0, indices, SHAPE)().astype(np.float64)
    final = ddim_trajectory(x, [99, 79, 59, 39, 19], np.array(indices) if conditional else None)
    arrays["trajectory0.out"] = final.astype(np.float32)
    settings = {"sampler": "ddim", "options": {"grid": "trailing", "clip_x0": True}, "num_steps": num_steps}
    spec = {"calls": [t for _, t in calls], "trajectories": [{"settings": settings, "indices": indices}]}
    np.savez(path, spec=np.array(json.dumps(spec)), **arrays)


def file_entry(path: Path) -> artifacts.FileEntry:
    return artifacts.FileEntry(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def tiny_io(conditional: bool) -> tuple[artifacts.Tensor, ...]:
    image = ("float32", ("N", *SHAPE))
    y = [artifacts.Tensor("y", "int64", ("N",), "class")] if conditional else []
    t = artifacts.Tensor("t", "float32", ("N",), "time")
    return artifacts.Tensor("x", *image, "noisy images"), t, *y, artifacts.Tensor("out", *image, "noise")


def tiny_manifest(artifact: artifacts.Artifact, golden: artifacts.FileEntry, conditional: bool) -> manifests.Manifest:
    checkpoint = {"file": "tiny.pt", "sha256": "0" * 64, "weights": "ema", "step": 7, "settings": {}}
    return manifests.Manifest(
        created_by="tests",
        model=manifests.Model("gaussian", {}, NUM_TIMESTEPS, checkpoint),
        process={"kind": "discrete", "schedule": "linear", "num_timesteps": NUM_TIMESTEPS},
        prediction="noise",
        time={"kind": "index", "dtype": "float32"},
        data=cards.StateSpace("pixel", SHAPE),
        sampler=cards.Sampler("ddim"),
        golden=golden,
        artifacts=(artifact,),
        classes=cards.Classes(NUM_CLASSES, null_label=NUM_CLASSES) if conditional else None,
    )


def write_bundle(
    folder: Path, *, conditional: bool = False, batch: tuple[int, int] = (1, 8), gain: float = 1.0, **changes: Any
) -> Path:
    """Write a bundle of the Gaussian denoiser (times `gain`); `changes` replace fields of its manifest."""
    folder.mkdir(parents=True)
    network, golden = folder / "denoiser.fp32.onnx", folder / "golden.npz"
    onnx.save(gaussian_onnx(batch[0] if batch[0] == batch[1] else "N", conditional, gain), network)
    write_golden(golden, conditional)
    worst = {"name": "call, batch 1, t = 0", "relative_l2": 1e-7}
    artifact = artifacts.Artifact(
        "onnx", "fp32", tiny_io(conditional), (file_entry(network),), batch, {"opset": 20}, {"onnx": onnx.__version__},
        artifacts.Tolerance(call=1e-5, trajectory=1e-4), {"checks": 4, "passed": True, "worst": worst},
    )  # fmt: skip
    manifest = replace(tiny_manifest(artifact, file_entry(golden), conditional), **changes)
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`make_bundle(name="tiny", conditional=False, batch=(1, 8), gain=1.0, **manifest fields)` -> its folder."""
    return lambda name="tiny", **options: write_bundle(tmp_path / "bundles" / name, **options)


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional bundle that tests copy and do not touch."""
    return write_bundle(tmp_path_factory.mktemp("pristine") / "tiny", conditional=True)


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> bundles.Bundle:
    """An unconditional bundle that was read back."""
    return bundles.read(make_bundle())


@pytest.fixture(name="exact_noise")
def exact_noise_fixture() -> Callable[..., np.ndarray]:
    """`exact_noise(x, t, labels)`, what the bundles' network computes, in float64."""
    return exact_noise


@pytest.fixture(name="ddim_trajectory")
def ddim_trajectory_fixture() -> Callable[..., np.ndarray]:
    """`ddim_trajectory(x, times, labels)`, an independent sampling loop in float64."""
    return ddim_trajectory


@pytest.fixture
def philox() -> Callable[[list[int], tuple[int, int]], list[int]]:
    """One block of Philox4x64-10 (Salmon et al. 2011, section 3.3): ten rounds of two wide products, a Weyl key."""
    word = 2**64

    def block(counter: list[int], key: tuple[int, int]) -> list[int]:
        x, (k0, k1) = counter, key
        for _ in range(10):
            high0, low0 = divmod(0xD2E7470EE14C6C93 * x[0], word)
            high1, low1 = divmod(0xCA5A826395121157 * x[2], word)
            x = [high1 ^ x[1] ^ k0, low1, high0 ^ x[3] ^ k1, low0]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) % word, (k1 + 0xBB67AE8584CAA73B) % word
        return x

    return block


@pytest.fixture
def drun(in_process: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    return in_process("drun")


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages without PyTorch, ONNX, ONNX Runtime and OpenVINO: a folder of links."""
    installed, folder = Path(np.__file__).parents[1], tmp_path_factory.mktemp("bare")
    for path in installed.iterdir():
        if not path.name.startswith(("torch", "functorch", "onnx", "openvino", "__pycache__")):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python(*arguments, path=...)` runs an interpreter in `tmp_path`; `path` is its whole module path."""

    def call(*arguments: object, path: Sequence[Path] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        flags = ["-S"] if path else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *flags, *map(str, arguments)]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, **options
        )

    return call
