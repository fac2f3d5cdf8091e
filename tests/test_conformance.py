"""Every model x backend x sampler that is found, without a list to edit: new files are tested as they appear."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dexport import writer
from dexport.fixtures import full_proof
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion import process as processes
from drun.diffusion import samplers
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError
from drun.run import parity
from drun.run.sampling import SamplingSettings, open_sampling
from dtrain import config, models, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe

#: The smallest keywords that build each family of models, and the recipe that trains one.
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("digits-unet", {"dim": 8, "dim_mults": [1, 2], "channels": 1}),
    (
        "digits-sit",
        {"input_size": 8, "size": {"hidden_size": 16, "depth": 2, "num_heads": 2}, "channels": 1, "num_classes": 3},
    ),
)
NAMES = sorted(name for name, model in models.available().items() if getattr(model, "predicts", None) == "image")
READY = [name for name in backends.names() if backends.load(name).probe().available]
#: Those that open an artifact; the others compute a closed form.
NETWORKS = [name for name in READY if backends.load(name).formats]
STEPS = 4
CFG = 1.5


@cache
def recipe_of(name: str) -> Recipe:
    """A recipe of a small model; one with a learned variance is trained as that is, with discrete timesteps."""
    for family, keywords in FAMILIES:
        model = {"name": name} | keywords
        try:
            network = models.build(model)
        except ConfigError:
            continue
        # A linear schedule, because trajectories of very few steps are ill-conditioned on the end of a cosine.
        discrete = config.load("digits-unet", ["process.schedule=linear"]).to_dict()
        sections = config.load(family).to_dict()
        if family == "digits-unet" or getattr(network, "out_multiple", 1) > 1:
            sections |= {key: discrete[key] for key in ("process", "objective")}
        sections["data"]["image_size"] = keywords.get("input_size", 16)
        return config.from_dict(sections | {"model": model})
    raise AssertionError(f"no keywords here build a {name}: add a family")


@pytest.fixture(scope="module", params=NAMES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint with weights that are nowhere zero, and its bundle."""
    folder, recipe = tmp_path_factory.mktemp(request.param), recipe_of(request.param)
    torch.manual_seed(0)
    network = models.build(recipe.model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    path = checkpoint.save(Checkpoint(recipe, 1, network.state_dict(), network.state_dict(), {}), folder, keep=1)
    writer.write_bundle(published.load(path), path, "onnx", folder / "bundle", (1, 8), full_proof(3), silent)
    return path, bundles.read(folder / "bundle")


def options_of(bundle: Bundle, sampler: str) -> dict[str, Any]:
    """The bundle's own where the sampler is, so that a learned variance is used."""
    own = bundle.manifest.sampler
    return samplers.resolve(sampler, own.options if sampler == own.name else {})


def draw(bundle: Bundle, backend: str, sampler: str, indices: list[int]) -> np.ndarray:
    """Guided, where the network can be."""
    cfg = CFG if bundle.manifest.classes else 1.0
    settings = SamplingSettings(sampler, options_of(bundle, sampler), STEPS, seed=3, cfg=cfg)
    opened = backends.open_backend(backend, bundle)
    try:
        return open_sampling(bundle, opened, settings).draw(indices, lambda row, x: None)
    finally:
        opened.close()


def test_some_backend_computes_the_network() -> None:
    assert NETWORKS


def test_the_models_here_know_every_kind_of_process() -> None:
    assert {recipe_of(name).process["kind"] for name in NAMES} == set(processes.KINDS)


@pytest.mark.parametrize("backend", NETWORKS)
def test_golden_file(exported: tuple[Path, Bundle], backend: str) -> None:
    _, bundle = exported
    opened = backends.open_backend(backend, bundle)
    results = parity.check(bundle, opened, bundle.artifact(opened.formats), silent)
    assert all(result.passed for result in results), results


@pytest.mark.parametrize("sampler", samplers.names())
@pytest.mark.parametrize("backend", READY)
def test_an_image_depends_on_its_seed_and_index_only(exported: tuple[Path, Bundle], backend: str, sampler: str) -> None:
    _, bundle = exported
    if sampler not in samplers.fitting(bundle.process):
        with pytest.raises(ConfigError):
            draw(bundle, backend, sampler, [0])
        return
    together = draw(bundle, backend, sampler, [0, 1, 2])
    assert together.shape == (3, *bundle.manifest.data.shape)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert np.abs(together[0] - together[1]).max() > 0.01
    for index in (0, 2):
        alone = draw(bundle, backend, sampler, [index])
        assert np.linalg.norm(alone - together[index]) < 1e-4 * np.linalg.norm(alone)


def eager_states(bundle: Bundle, network: torch.nn.Module, sampler: str) -> np.ndarray:
    """The samples 0 and 1, guided as in Ho & Salimans 2022; a learned variance stays that of the class."""
    manifest, noise = bundle.manifest, PhiloxNoise(3, [0, 1], bundle.manifest.data.shape)

    @torch.no_grad()
    def eager(x: torch.Tensor, t: float, w: float) -> torch.Tensor:
        times = torch.full((len(x),), t)
        if manifest.classes is None:
            return network(x, times)
        conditional = network(x, times, torch.tensor([0, 1]))
        unconditional = network(x, times, torch.full((2,), manifest.classes.null_label))
        guided = unconditional + CFG * (conditional - unconditional)
        return torch.cat((guided[:, : x.shape[1]], conditional[:, x.shape[1] :]), dim=1)

    options = options_of(bundle, sampler)
    table = samplers.step_table(sampler, bundle.process, manifest.prediction, STEPS, options, manifest.variance)
    return sample(eager, torch.from_numpy(noise()), table, lambda: torch.from_numpy(noise())).numpy()


@pytest.mark.parametrize("backend", NETWORKS)
def test_the_backends_image_is_eager_torchs(exported: tuple[Path, Bundle], backend: str) -> None:
    path, bundle = exported
    network = published.load(path).network
    for sampler in samplers.fitting(bundle.process):
        expected = eager_states(bundle, network, sampler)
        got = draw(bundle, backend, sampler, [0, 1])
        assert np.linalg.norm(got - expected) < 1e-3 * np.linalg.norm(expected), sampler
