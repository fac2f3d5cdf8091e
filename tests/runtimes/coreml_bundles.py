"""Bundles whose denoiser is a Core ML package, too: the Gaussian, written by coremltools."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gaussians import CLASS_STEP, alphas_cumprod, slopes
from mil_programs import library, quiet

from drun.bundle import artifact as artifacts
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.files import sha256

SHAPE = (3, 8, 8)
ROOT = "denoiser.fp32-gpu.mlpackage"


def add_package(
    path: Path, sizes: tuple[int, ...] = (1, 2), keep: bool = True, denoiser: Callable[..., Any] | None = None
) -> Bundle:
    """Add coreml-fp32-gpu to a conditional bundle of the Gaussian, with a function for each size.

    keep: whether the bundle keeps its ONNX graph. denoiser: the program; None: the Gaussian, as the bundle says.
    """
    ct = library()
    models = {f"batch_{size}": _converted(ct, size, denoiser or _gaussian) for size in sizes}
    _save(ct, models, path / ROOT)
    manifest = bundles.read(path).manifest
    listed = sorted(file for file in (path / ROOT).rglob("*") if file.is_file())
    package = replace(
        manifest.artifacts[0],
        format="coreml",
        files=tuple(artifacts.FileEntry(file.relative_to(path).as_posix(), sha256(file)) for file in listed),
        batch=(min(sizes), max(sizes)),
        target={"ios": 18, "macos": 15, "unit": "gpu"},
        variant="gpu",
        root=ROOT,
    )
    kept = (manifest.artifacts[0], package) if keep else (package,)
    (path / "manifest.json").write_text(replace(manifest, artifacts=kept).to_json())
    return bundles.read(path)


def _gaussian(mb: Any, size: int, x: Any, t: Any, y: Any) -> Any:
    tables = [np.asarray(table, np.float32) for table in (slopes(1.0), np.sqrt(alphas_cumprod()))]
    index = mb.cast(x=t, dtype="int32")
    slope, alpha = (mb.gather(x=table, indices=index, axis=0) for table in tables)
    mean = mb.mul(x=mb.cast(x=y, dtype="fp32"), y=np.float32(CLASS_STEP))
    shift = mb.reshape(x=mb.mul(x=mean, y=alpha), shape=[size, 1, 1, 1])
    factor = mb.reshape(x=slope, shape=[size, 1, 1, 1])
    return mb.mul(x=mb.sub(x=x, y=shift), y=factor, name="out")


def network(mb: Any, size: int, x: Any, t: Any, y: Any) -> Any:
    """Some of everything: palettes, weights in blocks, convolutions, a split, attention and an order."""
    from coremltools.converters.mil.mil import types

    draw = np.random.default_rng(0)
    four_bits = types.nptype_from_builtin(types.string_to_builtin("uint4"))
    palette = draw.standard_normal((1, 1, 1, 1, 16, 1)).astype(np.float32) / 4
    first = mb.constexpr_lut_to_dense(indices=draw.integers(0, 16, (8, 3, 3, 3)).astype(four_bits), lut=palette)
    last = mb.constexpr_blockwise_shift_scale(
        data=draw.integers(-8, 8, (3, 4, 1, 1)).astype(np.int8), scale=np.full((3, 2, 1, 1), 0.05, np.float32)
    )
    rows, keys = mb.split(x=mb.conv(x=x, weight=first, pad_type="same"), num_splits=2, axis=1)
    query, key = (mb.reshape(x=one, shape=[size, 4, 64]) for one in (rows, mb.silu(x=keys)))
    tokens = mb.scaled_dot_product_attention(query=query, key=key, value=mb.layer_norm(x=key, axes=[2]))
    largest, _ = mb.topk(x=tokens, k=3, axis=2)
    shift = mb.reshape(x=mb.reduce_mean(x=largest, axes=[1, 2]), shape=[size, 1, 1, 1])
    label = mb.gather(x=draw.standard_normal(10).astype(np.float32), indices=y, axis=0)
    shift = mb.add(x=shift, y=mb.reshape(x=mb.mul(x=label, y=mb.cos(x=t)), shape=[size, 1, 1, 1]))
    out = mb.conv(x=mb.reshape(x=tokens, shape=[size, 4, 8, 8]), weight=last, pad_type="valid")
    return mb.add(x=out, y=shift, name="out")


def _converted(ct: Any, size: int, denoiser: Callable[..., Any]) -> Any:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((size, *SHAPE)), mb.TensorSpec((size,)), mb.TensorSpec((size,), types.int32)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x: Any, t: Any, y: Any) -> Any:
        return denoiser(mb, size, x, t, y)

    with quiet():
        return ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )


def _save(ct: Any, models: dict[str, Any], path: Path) -> None:
    parts = path.with_name("parts")
    described = ct.utils.MultiFunctionDescriptor()
    with quiet():
        for name, model in models.items():
            model.save(str(parts / f"{name}.mlpackage"))
            described.add_function(
                str(parts / f"{name}.mlpackage"), src_function_name="main", target_function_name=name
            )
        described.default_function_name = next(iter(models))
        ct.utils.save_multifunction(described, str(path))
    shutil.rmtree(parts)
