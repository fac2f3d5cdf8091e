"""Every model x backend x sampler that is found, without a list to edit: new files are tested as they appear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dexport import writer
from drun import backends, parity, samplers
from drun import bundle as bundles
from drun.bundle import Bundle
from drun.console import silent
from drun.loop import sample
from drun.noise import PhiloxNoise
from drun.run import Settings, open_sampling
from dtrain import checkpoint, config, models, published
from dtrain.checkpoint import Checkpoint

#: The smallest keywords that build each family of models.
SMALL = {"dim": 8, "dim_mults": [1, 2], "channels": 1}
READY = [name for name in backends.names() if backends.load(name).probe().available]
#: Those that open an artifact; the others compute a closed form.
NETWORKS = [name for name in READY if backends.load(name).formats]
STEPS = 4


@pytest.fixture(scope="module", params=sorted(models.available()))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint with weights that are nowhere zero, and its bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    # A linear schedule, because trajectories of very few steps are ill-conditioned on the end of a cosine.
    sections = config.load("digits-unet", ["process.schedule=linear"]).to_dict()
    recipe = config.from_dict(sections | {"model": {"name": request.param} | SMALL})
    torch.manual_seed(0)
    network = models.build(recipe.model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    path = checkpoint.save(Checkpoint(recipe, 1, network.state_dict(), network.state_dict(), {}), folder, keep=1)
    writer.write_bundle(published.load(path), path, "onnx", folder / "bundle", (1, 8), 3, silent)
    return path, bundles.read(folder / "bundle")


def draw(bundle: Bundle, backend: str, sampler: str, indices: list[int], **options: Any) -> np.ndarray:
    settings = Settings(sampler, samplers.resolve(sampler, options), STEPS, seed=3)
    opened = backends.open_backend(backend, bundle)
    try:
        return open_sampling(bundle, opened, settings).draw(indices, lambda row, x: None)
    finally:
        opened.close()


def test_some_backend_computes_the_network() -> None:
    assert NETWORKS


@pytest.mark.parametrize("backend", NETWORKS)
def test_golden_file(exported: tuple[Path, Bundle], backend: str) -> None:
    _, bundle = exported
    opened = backends.open_backend(backend, bundle)
    results = parity.check(bundle, opened, bundle.artifact(opened.formats), silent)
    assert all(result.passed for result in results), results


@pytest.mark.parametrize("sampler", samplers.names())
@pytest.mark.parametrize("backend", READY)
def test_an_image_depends_on_its_seed_and_index_only(
    exported: tuple[Path, Bundle], backend: str, sampler: str
) -> None:
    _, bundle = exported
    together = draw(bundle, backend, sampler, [0, 1, 2])
    assert together.shape == (3, 1, 16, 16)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert np.abs(together[0] - together[1]).max() > 0.01
    for index in (0, 2):
        alone = draw(bundle, backend, sampler, [index])
        assert np.linalg.norm(alone - together[index]) < 1e-4 * np.linalg.norm(alone)


@pytest.mark.parametrize("sampler", samplers.names())
@pytest.mark.parametrize("backend", NETWORKS)
def test_the_backends_image_is_eager_torchs(exported: tuple[Path, Bundle], backend: str, sampler: str) -> None:
    path, bundle = exported
    network = published.load(path).network
    noise = PhiloxNoise(3, [0, 1], bundle.manifest.data.shape)

    @torch.no_grad()
    def eager(x: torch.Tensor, t: float, w: float) -> torch.Tensor:
        return network(x, torch.full((len(x),), t))

    table = samplers.step_table(sampler, bundle.process, bundle.manifest.prediction, STEPS)
    expected = sample(eager, torch.from_numpy(noise()), table, lambda: torch.from_numpy(noise())).numpy()
    got = draw(bundle, backend, sampler, [0, 1])
    assert np.linalg.norm(got - expected) < 1e-3 * np.linalg.norm(expected)
