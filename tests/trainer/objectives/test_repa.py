"""Alignment against its formulas, on real transformers and a real teacher."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import perturb
from torch import Tensor

from drun.console import silent
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError, DataError
from dtrain import config, models, objectives
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.data.dataset import PixelImages
from dtrain.draws import Draws
from dtrain.objectives import Batch
from dtrain.objectives.repa import Aligned, ConvProjector, negative_cosine, spatially_normalised

CPU = torch.device("cpu")
TINY = {"hidden_size": 16, "depth": 3, "num_heads": 2}
PROCESS = FlowProcess()


def perturbed(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return perturb(network)


def student(**options: Any) -> torch.nn.Module:
    config = {"name": "SiT", "input_size": 16, "size": TINY, "channels": 1, "num_classes": 10}
    return perturbed(models.build(config | options))


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher as `dtrain run digits-teacher` leaves it."""
    small = ["model.patch_size=2", "model.hidden_size=12", "model.depth=1", "model.num_heads=2"]
    recipe = config.load("digits-teacher", small)
    state = perturbed(models.build(recipe.model), 1).state_dict()
    return checkpoint.save(Checkpoint(recipe, 1, state, state, {}), tmp_path_factory.mktemp("teacher"), 1)


def repa(teacher_file: Path, process: Any = PROCESS, **options: Any) -> Any:
    given = {"name": "repa", "base": {"name": "flow"}, "teachers": [str(teacher_file)], "encoder_depth": 2,
             "image_size": 16, "projector_width": 20}  # fmt: skip
    return objectives.build(given | options, process, CPU)


def pictures(n: int = 6) -> Tensor:
    return torch.randint(256, (n, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def batch(n: int = 6, step: int = 0, with_pictures: bool = True) -> Batch:
    shown = pictures(n)
    x0 = shown.permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.arange(n) % 10
    return Batch(x0, labels, Draws(0, step, n, slice(0, n), CPU), step, shown if with_pictures else None)


def tokens_after(network: Any, depth: int, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The residual stream after block `depth`, 1 being the first."""
    condition = F.silu(network.t_embedder(t) + network.y_embedder(y))
    tokens = network.x_embedder(x) + network.pos_embed
    for block in list(network.blocks)[:depth]:
        tokens = block(tokens, condition)
    return tokens


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_loss_is_denoising_plus_weighted_mean_of_negative_cosines(teacher_file: Path, depth: int) -> None:
    """Facts 2.1, image by image and token by token."""
    objective, network = repa(teacher_file, encoder_depth=depth, weight=0.7), student()
    module, given = objective.wrap(network), batch()
    got = objective.loss(module, given)
    alone = objectives.build({"name": "flow"}, PROCESS, CPU).loss(network, batch())["loss"]

    t = torch.from_numpy(given.draws.times()).float()
    noise = batch().draws.normal(1, 16, 16)
    mixed = t[:, None, None, None]
    x = (1 - mixed) * given.x0 + mixed * noise
    projected = module.projectors[0](tokens_after(network, depth, x, t, given.labels))
    features = objective.teachers[0](given.pictures)
    cosines = [
        float((p @ f / (p.norm() * f.norm())).detach())
        for image in zip(projected, features, strict=True)
        for p, f in zip(*image, strict=True)
    ]
    assert len(cosines) == 6 * 64
    assert float(got["alignment"]) == pytest.approx(-np.mean(cosines), rel=1e-4)
    assert float(got["denoising"]) == pytest.approx(float(alone.detach()), rel=1e-5)
    total = float(alone.detach()) - 0.7 * np.mean(cosines)
    assert float(got["loss"].detach()) == pytest.approx(total, rel=1e-5)
    assert abs(np.mean(cosines)) > 1e-3


def test_the_output_of_the_network_is_untouched_and_all_of_both_is_trained(teacher_file: Path) -> None:
    objective, network = repa(teacher_file), student()
    module = objective.wrap(network)
    x, t, y = torch.randn(2, 1, 16, 16), torch.rand(2), torch.tensor([1, 10])
    output, projected = module(x, t, y)
    torch.testing.assert_close(output, network(x, t, y))
    assert [tuple(each.shape) for each in projected] == [(2, 64, 12)]
    assert "projectors" not in " ".join(network.state_dict())
    objective.loss(module, batch())["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    trained = {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert trained >= {"network.blocks.1.attn.qkv.weight", "network.final_layer.linear.weight", "projectors.0.0.weight"}
    assert not any(parameter.requires_grad for parameter in objective.teachers[0].network.parameters())


def test_projector_has_the_published_keys(teacher_file: Path) -> None:
    state = repa(teacher_file).wrap(student()).projectors.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "0.0.weight": (20, 16), "0.0.bias": (20,), "0.2.weight": (20, 20), "0.2.bias": (20,), "0.4.weight": (12, 20),
        "0.4.bias": (12,),
    }  # fmt: skip


def test_several_teachers_have_a_projector_each_and_equal_shares(teacher_file: Path) -> None:
    torch.manual_seed(3)
    both = repa(teacher_file, teachers=[str(teacher_file), str(teacher_file)])
    module = both.wrap(student())
    features = both.seen(batch())
    projected = [torch.randn_like(feature) for feature in features]
    single = [float(both.alignment([p], [f])) for p, f in zip(projected, features, strict=True)]
    assert len(module.projectors) == 2
    assert float(both.alignment(projected, features)) == pytest.approx(np.mean(single), rel=1e-5)


def test_cosines_have_the_gradient_of_pytorchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = (3 * torch.randn(2, 5, 7, generator=generator)).requires_grad_()
    features = torch.randn(2, 5, 7, generator=generator)
    found = torch.autograd.grad(negative_cosine(tokens, features, 0.1), tokens)[0]
    expected = torch.autograd.grad(-torch.cosine_similarity(tokens, features, dim=-1).mean(), tokens)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.isfinite(negative_cosine(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 0.1))


def test_nt_xent_by_its_formula(teacher_file: Path) -> None:
    objective = repa(teacher_file, similarity="nt_xent", temperature=0.2)
    tokens, features = torch.randn(2, 5, 7, dtype=torch.float64), torch.randn(2, 5, 7, dtype=torch.float64)
    terms = []
    for image in range(2):
        for i in range(5):
            one, others = tokens[image, i], features[image]
            scores = [float(one @ other / (one.norm() * other.norm())) / 0.2 for other in others]
            terms.append(math.log(sum(map(math.exp, scores))) - scores[i])
    assert float(objective.alignment([tokens], [features])) == pytest.approx(np.mean(terms), rel=1e-5)


def test_alignment_is_float32_under_autocast(teacher_file: Path) -> None:
    objective = repa(teacher_file)
    tokens, features = torch.randn(2, 64, 12), torch.randn(2, 64, 12)
    with torch.autocast("cpu", torch.bfloat16):
        assert objective.alignment([tokens], [features]).dtype == torch.float32
    small = (1e-3 * tokens).half()  # whose squares are not there in half precision
    expected = pytest.approx(float(objective.alignment([tokens], [features])), abs=1e-3)
    assert float(objective.alignment([small], [features])) == expected


def test_conv_projector_sees_its_neighbours_in_the_grid() -> None:
    """A 3x3 neighbourhood of the tokens along the rows."""
    torch.manual_seed(0)
    projector, tokens = ConvProjector(4, 3), torch.randn(1, 25, 4)
    out = projector(tokens)
    assert out.shape == (1, 25, 3)
    moved = tokens.clone()
    moved[0, 12] += 1  # row 2, column 2 of 5
    changed = (projector(moved) - out).abs().amax(dim=2)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    window = tokens.reshape(5, 5, 4)[1:4, 1:4]
    expected = torch.einsum("dcij,ijc->d", projector.conv.weight, window) + projector.conv.bias
    torch.testing.assert_close(out[0, 12], expected)


def test_spatial_normalisation_by_its_formula() -> None:
    """iREPA: (z - gamma mean_T) / (std_T + 1e-6), the unbiased deviation."""
    z = np.random.default_rng(0).standard_normal((2, 6, 3)) + 4
    expected = (z - 0.6 * z.mean(axis=1, keepdims=True)) / (z.std(axis=1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(spatially_normalised(torch.from_numpy(z), 0.6), expected, rtol=1e-12)


def test_irepas_options_work_together(teacher_file: Path) -> None:
    objective = repa(teacher_file, projector="conv", spatial_norm=0.6, weight=1.0)
    module = objective.wrap(student())
    losses = objective.loss(module, batch())
    plain = repa(teacher_file, projector="conv", weight=1.0)
    module_tokens = module(batch().x0, torch.rand(6), torch.arange(6))[1]
    assert torch.isfinite(losses["loss"])
    assert not torch.isclose(objective.alignment(module_tokens, objective.seen(batch())),
                             plain.alignment(module_tokens, plain.seen(batch())))  # fmt: skip


def test_alignment_stops_but_every_weight_keeps_a_gradient(teacher_file: Path) -> None:
    objective = repa(teacher_file, stop_after=10)
    module = objective.wrap(student())
    passed: list[int] = []
    module.projectors[0].register_forward_pre_hook(lambda projector, tokens: passed.append(len(tokens[0])))
    assert "alignment" in objective.loss(module, batch(step=9))
    assert (objective.needs_pictures(9), objective.needs_pictures(10)) == (True, False)
    objective.teachers = []  # none is asked any more
    losses = objective.loss(module, batch(step=10))
    losses["loss"].backward()
    assert "alignment" not in losses
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    assert not any(p.grad.any() for p in module.projectors.parameters())
    assert passed == [6, 1]  # a step after the end costs what a plain one does


def test_cached_features_give_the_same_loss_without_a_teacher(teacher_file: Path, tmp_path: Path) -> None:
    network = student()
    live, cached = repa(teacher_file), repa(teacher_file, cache=str(tmp_path))
    dataset = PixelImages(None, pictures().numpy())
    torch.manual_seed(5)
    module = live.wrap(network)
    cached.attend(dataset, silent)
    assert cached.teachers == []
    assert not cached.needs_pictures(0)
    assert live.needs_pictures(0)
    expected = float(live.loss(module, batch())["loss"].detach())
    features = tuple(torch.from_numpy(each) for each in cached.features(np.arange(6), 0))
    given = replace(batch(with_pictures=False), features=features)
    got = float(cached.loss(module, given)["loss"].detach())
    assert got == pytest.approx(expected, abs=1e-4)


def test_added_to_ddpm_with_learned_variance(teacher_file: Path) -> None:
    objective = repa(teacher_file, DiscreteProcess("linear"), base={"name": "ddpm", "learned_variance": True})
    network = student(name="DiT")
    losses = objective.loss(objective.wrap(network), batch())
    assert {"loss", "denoising", "bound_bits", "alignment"} <= losses.keys()
    total = float(losses["denoising"] + losses["bound_bits"] + 0.5 * losses["alignment"])
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)


def test_aligned_with_torch_compile_gives_the_same(teacher_file: Path) -> None:
    """The hook survives tracing."""
    objective, network = repa(teacher_file), student()
    module = objective.wrap(network)
    inputs = torch.randn(2, 1, 16, 16), torch.rand(2), torch.tensor([1, 10])
    output, projected = module(*inputs)
    compiled = torch.compile(module, backend="eager")
    for _ in range(2):
        again, projected_again = compiled(*inputs)
        torch.testing.assert_close(again, output)
        torch.testing.assert_close(projected_again[0], projected[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": {"name": "classify"}}, "objective.base 'classify' trains no denoiser: choose flow or ddpm"),
        ({"similarity": "l2"}, "objective.similarity got 'l2', expected one of cosine, nt_xent"),
        ({"projector": "gru"}, "objective.projector got 'gru', expected one of mlp, conv"),
        ({"teachers": []}, "objective.teachers is empty: name at least one"),
    ],
)
def test_wrong_options_are_named(teacher_file: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        repa(teacher_file, **options)


@pytest.mark.parametrize("depth", [0, 4])
def test_a_depth_outside_the_network(teacher_file: Path, depth: int) -> None:
    with pytest.raises(ConfigError, match=f"objective.encoder_depth got {depth}, the network has blocks 1 to 3"):
        repa(teacher_file, encoder_depth=depth).wrap(student())


def test_a_teacher_of_other_tokens(teacher_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"64.*16|16.*64"):
        repa(teacher_file).wrap(student(patch_size=4))


def test_a_network_without_blocks(teacher_file: Path) -> None:
    unet = models.build({"name": "OneResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 1})
    with pytest.raises(ConfigError, match="OneResUNet has none: use a SiT or DiT"):
        repa(teacher_file).wrap(unet)


def test_a_teacher_with_damaged_weights_is_named_at_the_first_step(teacher_file: Path) -> None:
    objective = repa(teacher_file)
    module = objective.wrap(student())
    with torch.no_grad():
        objective.teachers[0].network.pos_embed[0, 3, 1] = torch.nan
    with pytest.raises(DataError, match="gives features that are not finite: its weights are damaged"):
        objective.loss(module, batch())


def test_pictures_that_are_missing(teacher_file: Path) -> None:
    objective = repa(teacher_file)
    module = objective.wrap(student())
    assert isinstance(module, Aligned)
    with pytest.raises(ConfigError, match="teachers need pictures, and this data set has none"):
        objective.loss(module, batch(with_pictures=False))
