"""What a training step is counted as, by formula, and that it trains."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from trials import CPU, TINY_SIT, TINY_UNET

from dbench.core.flops import forward_flops
from dbench.core.matmuls import Matmuls
from dbench.suites.train import Settings, candidates, synthetic, work
from dbench.suites.train.memory import GpuScale
from dbench.suites.train.trial import Trial
from drun.console import silent
from dtrain import models, teachers

SIZE = {"hidden_size": 16, "depth": 3, "num_heads": 2}


def started(name: str, assignments: tuple[str, ...], folder: Path, **options: Any) -> Trial:
    recipe = candidates.resolve(Settings(name, assignments=assignments, **options))
    (recipe,) = candidates.prepare(recipe, (), folder, silent).values()
    return Trial(recipe, folder / "out", CPU)


def linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def test_the_work_of_a_transformer_by_its_formula(tmp_path: Path) -> None:
    tokens, hidden, depth, patch = 16, SIZE["hidden_size"], SIZE["depth"], 4 * 4 * 1
    block = (
        linear(tokens, hidden, 3 * hidden) + 2 * linear(tokens, hidden, tokens) + linear(tokens, hidden, hidden)
        + 2 * linear(tokens, hidden, 4 * hidden) + linear(1, hidden, 6 * hidden)
    )  # fmt: skip
    first = linear(tokens, patch, hidden) + linear(1, 256, hidden)  # nothing before them wants a gradient
    rest = linear(1, hidden, hidden) + depth * block + linear(1, hidden, 2 * hidden) + linear(tokens, hidden, patch)
    with closing(started("digits-sit", TINY_SIT[:2], tmp_path)) as running:
        counted = work.count_flops(running.run)
    assert (counted.network, counted.projectors, counted.teachers) == (2 * first + 3 * rest, 0, 0)
    assert counted.total == counted.trained == counted.network


def test_the_work_of_a_unet_is_three_times_its_forward(tmp_path: Path) -> None:
    with closing(started("digits-unet", TINY_UNET, tmp_path)) as running:
        counted = work.count_flops(running.run)
    network = models.build(running.run.recipe.model)
    forward = forward_flops(network, torch.zeros(1, 1, 16, 16), torch.zeros(1))
    assert 2.9 < counted.network / forward < 3


def test_the_work_of_a_teacher_is_its_forward(tmp_path: Path) -> None:
    teacher = teachers.load(synthetic.stand_in("digits-teacher", 16, tmp_path), 16, CPU.device)
    block = 12 * linear(16, 64, 64) + 2 * linear(16, 64, 16)
    assert work._forward(teacher) == linear(16, 16, 64) + 4 * block


def test_the_matrix_products_are_those_of_the_precision() -> None:
    matmuls = Matmuls(CPU.device, "bf16")
    matmuls()
    assert matmuls.flops == 8 * 2 * 128**3
    assert matmuls.out.dtype == torch.bfloat16
    torch.testing.assert_close(matmuls.out, matmuls.a @ matmuls.b)


def test_a_step_trains_every_weight(tmp_path: Path) -> None:
    with closing(started("digits-sit", TINY_SIT[:2], tmp_path)) as running:
        parameters = {name: each for name, each in running.run.module.named_parameters() if each.requires_grad}
        assert all(each.any() for each in parameters.values())  # none holds back the gradients of others
        before = {name: each.detach().clone() for name, each in parameters.items()}
        average = {name: each.clone() for name, each in running.run.ema.average.items()}
        running.whole_step()
        running.read()
        assert running.run.step == 1
        assert not any(torch.equal(each, before[name]) for name, each in parameters.items())
        assert not any(torch.equal(running.run.ema.average[name], average[name]) for name in parameters)
        assert 0 < running.loss < 10


def test_only_a_gpu_is_weighed_in_this_process() -> None:
    scale = GpuScale(CPU.device)
    scale.begin()
    assert scale.peak() is None
