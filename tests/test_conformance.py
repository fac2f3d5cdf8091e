"""All models x targets x precisions x backends x arithmetics x samplers: new files are tested as they appear.

`make test` takes the first model of each family, `make test-all` takes all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import family_of, perturb, smallest

from dexport import targets
from dexport.proof import full_proof
from dexport.quantisation import states
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.artifact import INT8, TOLERANCES, Tolerance
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion import process as processes
from drun.diffusion import samplers
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError
from drun.run import parity
from drun.run.golden import read_golden
from drun.run.opening import Candidate, Opened, candidates, open_candidate
from drun.run.sampling import Sampling
from drun.settings import RuntimeOptions, SamplingSettings
from dtrain import config, models, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe

#: family -> the recipe that trains its models
RECIPES = {"unet": "digits-unet", "transformer": "digits-sit"}
NAMES = sorted(name for name, model in models.available().items() if getattr(model, "predicts", None) == "image")


def prover_of(target: str) -> str:
    """The backend that proves a target's default."""
    return targets.prover(target, targets.precisions(target)[0])


#: The targets that are proven here, those that are made of another last.
TARGETS = sorted(
    (name for name in targets.names() if backends.load(prover_of(name)).probe().available),
    key=lambda name: targets.source_of(name) is not None,
)
#: Files that were made here may execute code.
OPTIONS = RuntimeOptions(trust=True)
STEPS = 4
CFG = 1.5
#: The bounds of an int8 graph here. In random networks of 8 channels few errors of rounding cancel, and nothing draws
#: their trajectories back to any data; trained networks pass their own tolerance.
DRIFT = Tolerance(0.2, 0.5)


def kinds(target: str, is_whole: bool) -> list[tuple[str, str]]:
    """The precisions and variants of what a target makes; if not `is_whole`, its default alone."""
    whole = [one for one in targets.precisions(target) if not TOLERANCES[one].least_db]  # random weights lose too much
    made = [(one, variant) for one in whole for variant in targets.variants(target, one)]
    return made if is_whole else made[:1]


@cache
def recipe_of(name: str) -> Recipe:
    """A recipe of a small model; one with a learned variance is trained as that is, with discrete timesteps."""
    family, model = family_of(name), smallest(name, channels=1)
    # A linear schedule, because trajectories of very few steps are ill-conditioned on the end of a cosine.
    discrete = config.load("digits-unet", ["process.schedule=linear"]).to_dict()
    sections = config.load(RECIPES[str(family)]).to_dict()
    if family == "unet" or getattr(models.outline(model), "out_multiple", 1) > 1:
        sections |= {key: discrete[key] for key in ("process", "objective")}
    sections["data"]["image_size"] = model.get("input_size", 16)
    return config.from_dict(sections | {"model": model})


#: Of each family; a model of none fails alone, in its own tests.
FIRST = {family_of(name) or name: name for name in reversed(NAMES)}
SLOW = {"unet": pytest.mark.slow}  # its exports take three times as long as a transformer's
MODELS = [pytest.param((name, False), id=name, marks=SLOW.get(family, ())) for family, name in FIRST.items()]
MODELS += [pytest.param((name, True), id=f"{name} in every precision", marks=pytest.mark.matrix) for name in NAMES]


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint with weights that are nowhere zero, and its bundle with every artifact that can be made of it."""
    name, is_whole = request.param
    folder, recipe = tmp_path_factory.mktemp(name), recipe_of(name)
    torch.manual_seed(0)
    network = perturb(models.build(recipe.model))
    path = checkpoint.save(Checkpoint(recipe, 1, network.state_dict(), network.state_dict(), {}), folder, keep=1)
    trained = Trained(published.load(path), path)
    for target in TARGETS:
        for precision, variant in kinds(target, is_whole):
            order = Order(target, precision, variant=variant, allow_drift=precision == INT8)
            if targets.source_of(target) is None:
                create_bundle(trained, order, folder / "bundle", full_proof(3), silent)
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(states, "NUM_STATES", 40)
                patch.setattr(states, "NUM_STEPS", 20)
                add_artifact(folder / "bundle", order, silent)
    return path, bundles.read(folder / "bundle")


@pytest.fixture(scope="module")
def opened(exported: tuple[Path, Bundle]) -> Iterator[list[Opened]]:
    """The bundle on every backend in every arithmetic."""
    _, bundle = exported
    with ExitStack() as stack:
        yield [stack.enter_context(open_candidate(bundle, one, OPTIONS)) for one in candidates(bundle)]


def options_of(bundle: Bundle, sampler: str) -> dict[str, Any]:
    """The bundle's own where the sampler is, so that a learned variance is used."""
    own = bundle.manifest.sampler
    return samplers.resolve(sampler, own.options if sampler == own.name else {})


def draw(bundle: Bundle, opened: Opened, sampler: str, indices: list[int]) -> np.ndarray:
    """Guided, where the network can be."""
    cfg = CFG if bundle.manifest.card.can_guide else 1.0
    settings = SamplingSettings(sampler, options_of(bundle, sampler), STEPS, seed=3, cfg=cfg)
    return np.asarray(Sampling(bundle.manifest.card, opened, settings).draw(indices))


def test_every_target_is_proven_here() -> None:
    assert set(targets.names()) - {"trt"} <= set(TARGETS)  # TensorRT computes on GPUs alone


def test_the_models_here_know_every_kind_of_process() -> None:
    assert {recipe_of(name).process["kind"] for name in NAMES if family_of(name)} == set(processes.KINDS)


def test_every_artifact_has_passed_its_own_proof(request: pytest.FixtureRequest, exported: tuple[Path, Bundle]) -> None:
    artifacts, (_, is_whole) = exported[1].manifest.artifacts, request.node.callspec.params["exported"]
    expected = {(target, *kind) for target in TARGETS for kind in kinds(target, is_whole)}
    assert {(artifact.format, artifact.precision, artifact.variant) for artifact in artifacts} == expected
    for artifact in artifacts:
        assert artifact.parity is not None
        assert artifact.parity["passed"] or artifact.precision == INT8


def norms_of(bundle: Bundle) -> dict[str, float]:
    """The comparison's name -> the norm of what eager PyTorch drew."""
    return {
        f"{one.settings.num_steps}-step {one.settings.sampler} trajectory, batch {len(one.indices)}": float(
            np.linalg.norm(one.out)
        )
        for one in read_golden(bundle).trajectories
    }


def test_every_candidate_passes_the_golden_file(exported: tuple[Path, Bundle], opened: list[Opened]) -> None:
    """In bf16 a trajectory does so without its farthest element.

    At t = 999 x0 = (x - sigma noise)/alpha magnifies an error 157 times, and is cut at -1 and 1. Of a U-Net that nobody
    trained one pixel, whose x0 is -1.8 in float32 and 0.1 in bf16, had 96 % of the squared error.
    """
    norms = norms_of(exported[1])
    for one in opened:
        for result in parity.check(exported[1], one, silent):
            bounds = DRIFT if one.arithmetic == INT8 else one.candidate.tolerance()
            assert result.count > 0
            allowed, error = bounds.trajectory if result.name in norms else bounds.call, result.relative_l2
            if one.arithmetic == "bf16" and result.name in norms:
                error = max(0.0, error**2 - (result.max_abs / norms[result.name]) ** 2) ** 0.5
            assert error <= allowed, (one.candidate.name, result)


@pytest.mark.parametrize("sampler", samplers.names())
def test_an_image_depends_on_its_seed_and_index_only(
    exported: tuple[Path, Bundle], opened: list[Opened], sampler: str
) -> None:
    _, bundle = exported
    for one in [*opened, open_candidate(bundle, Candidate("null", None, "fp32"))]:
        if sampler not in samplers.fitting(bundle.manifest.card.process):
            with pytest.raises(ConfigError):
                draw(bundle, one, sampler, [0])
            continue
        together = draw(bundle, one, sampler, [0, 1, 2])
        assert together.shape == (3, *bundle.manifest.data.shape)
        assert together.dtype == np.float32
        assert np.isfinite(together).all()
        assert np.abs(together[0] - together[1]).max() > 0.01
        bound = max(1e-4, one.candidate.tolerance().trajectory / 10)
        for index in (0, 2):
            alone = draw(bundle, one, sampler, [index])
            assert np.linalg.norm(alone - together[index]) < bound * np.linalg.norm(alone), one.candidate.name


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
    table = samplers.step_table(sampler, manifest.card.process, manifest.prediction, STEPS, options, manifest.variance)
    return sample(eager, torch.from_numpy(noise()), table, lambda: torch.from_numpy(noise())).numpy()


def test_every_candidates_image_is_eager_torchs(exported: tuple[Path, Bundle], opened: list[Opened]) -> None:
    path, bundle = exported
    network = published.load(path).network
    for sampler in samplers.fitting(bundle.manifest.card.process):
        expected = eager_states(bundle, network, sampler)
        for one in opened:
            error = np.linalg.norm(draw(bundle, one, sampler, [0, 1]) - expected) / np.linalg.norm(expected)
            bounds = DRIFT if one.arithmetic == INT8 else one.candidate.tolerance()
            assert error < bounds.trajectory, (sampler, one.candidate.name)
