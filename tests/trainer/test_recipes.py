"""The recipes build their parts and have the settings of their papers."""

import json
import re
from dataclasses import replace

import pytest
import torch

from drun.diffusion import process as processes
from drun.diffusion.prediction import COMPONENTS
from dtrain import config, models, objectives
from dtrain.draws import Draws
from dtrain.objectives import Batch


@pytest.mark.parametrize("name", config.names())
def test_every_recipe_builds_its_parts_and_survives_json(name: str) -> None:
    recipe = config.load(name)
    assert config.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert processes.from_dict(recipe.process)
    with torch.device("meta"):
        network = models.build(recipe.model)
    if network.predicts == "image":
        assert objectives.prediction(recipe.objective) in COMPONENTS
    assert len(config.summary(name)) > 20


@pytest.mark.parametrize(("size", "depth"), [("s", 4), ("b", 4), ("l", 8), ("xl", 8)])
def test_repas_recipes_have_the_papers_settings(size: str, depth: int) -> None:
    recipe = config.load(f"sit-{size}-2-repa")
    assert (recipe.objective["encoder_depth"], recipe.objective["weight"]) == (depth, 0.5)
    assert recipe.objective["teachers"] == ["dinov2-vit-b"]
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (1e-4, (0.9, 0.999), 0)
    assert (recipe.ema.decay, recipe.data.label_dropout, recipe.train.batch_size) == (0.9999, 0.1, 256)


@pytest.mark.parametrize("name", ["sit-s-2", "sit-b-2", "sit-l-2", "sit-xl-2", "dit-xl-2"])
def test_sit_and_dit_flip_and_repa_does_not(name: str) -> None:
    assert config.load(name).data.augment == ("hflip",)
    assert config.load(f"{name}-repa").data == replace(config.load(name).data, augment=())


def test_dit_learns_its_variance_on_the_linear_chain() -> None:
    for name in ("dit-xl-2", "dit-xl-2-repa"):
        recipe = config.load(name)
        assert recipe.model["name"] == "DiT"
        assert recipe.process == {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
        assert recipe.objective.get("base", recipe.objective)["learned_variance"]


def test_aerial_128_is_the_articles_run() -> None:
    recipe = config.load("aerial-128")
    assert recipe.model == {"name": "TwoResUNet", "dim": 64, "dim_mults": [1, 2, 4, 8], "channels": 3}
    assert recipe.process == {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
    assert (recipe.train.steps, recipe.train.batch_size, recipe.data.image_size) == (37_000, 16, 128)
    assert (recipe.train.save_every, recipe.train.preview_every, recipe.train.num_previews) == (1000, 1000, 4)
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.grad_clip) == (1e-4, (0.9, 0.99), 0)
    assert (recipe.ema.law, recipe.ema.decay, recipe.ema.every) == ("warmup", 0.995, 10)


def test_aerial_128_says_how_it_follows_the_article() -> None:
    text = config.text("aerial-128")
    settings = re.findall(r"^#.*--set (\S+) --set (\S+)$", text, re.MULTILINE)
    article = config.load("aerial-128", [setting.replace("'", "") for setting in settings[0]])
    assert article.data.augment == ("hflip",)
    x, seen = torch.zeros(16, 3, 4, 4), list[torch.Tensor]()

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return x

    for recipe in (article, config.load("aerial-128")):
        objective = objectives.build(recipe.objective, processes.from_dict(recipe.process), torch.device("cpu"))
        objective.loss(network, Batch(x, None, Draws(0, 0, 16, slice(0, 16), torch.device("cpu")), 0))
    assert len(seen[0].unique()) == 1 < len(seen[1].unique())
