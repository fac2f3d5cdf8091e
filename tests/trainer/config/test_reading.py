import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.diffusion import process as processes
from drun.diffusion.prediction import COMPONENTS
from drun.errors import ConfigError
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


def test_an_extending_recipe_changes_what_it_names() -> None:
    base, small, aligned = (config.load(name) for name in ("sit-xl-2", "sit-s-2", "sit-s-2-repa"))
    assert small.model == base.model | {"size": "S"}
    assert (small.process, small.objective, small.train) == (base.process, base.objective, base.train)
    assert aligned.model == small.model
    assert aligned.process == base.process | {"noise_time": 1}
    assert aligned.objective["name"] == "repa"
    assert "prediction" not in aligned.objective
    assert aligned.optimizer == replace(base.optimizer, grad_clip=1.0)


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


def test_command_line_beats_recipe_beats_default() -> None:
    assignments = ["train.steps=7", "train.precision=bf16", "data.augment=['hflip']"]
    recipe = config.load("digits-unet", assignments, data="pics/")
    assert (recipe.train.steps, recipe.train.precision, recipe.data.augment) == (7, "bf16", ("hflip",))
    assert recipe.data.source == "pics/"
    assert recipe.train.batch_size == config.load("digits-unet").train.batch_size
    assert recipe.train.keep_checkpoints == 3


def test_a_recipe_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[model]\nname="OneResUNet"\ndim=8\n[process]\nkind="discrete"\nschedule="linear"\nnum_timesteps=10\n[objective]\nname="ddpm"\n'
        "[data]\nimage_size=8\n[train]\nsteps=1\nbatch_size=2\n"
    )
    assert config.load(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.steps=0", "train.steps got 0, expected at least 1"),
        ("train.steps=many", "train.steps got 'many', expected a whole number"),
        ("train.speed=3", "unknown setting 'train.speed': choose from steps, batch_size"),
        ("steps=3", "expected section.key=value"),
        ("engine.steps=3", "unknown section 'engine'"),
        ("train.precision=fp8", "train.precision got 'fp8', expected one of auto, fp32, bf16"),
        ("ema.law=median", "ema.law got 'median', expected one of ramp, warmup, constant"),
        ("ema.decay=1.5", "ema.decay got 1.5"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate got 0.0, expected above 0"),
        ("optimizer.betas=[0.9]", r"optimizer.betas has 1 values, expected 2"),
        ("optimizer.betas=[0.9, 1.0]", r"optimizer.betas got 1.0, expected 0 up to, not including, 1"),
        ("optimizer.betas='fast'", r"optimizer.betas got 'fast', expected list"),
        ("optimizer.weight_decay=inf", r"optimizer.weight_decay got inf, expected a finite number"),
        ("optimizer.decay_share=2", r"optimizer.decay_share got 2.0, expected 0 to 1"),
        ("ema.every=0", r"ema.every got 0, expected at least 1"),
        ("ema.every=1.5", r"ema.every got 1.5, expected a whole number"),
        ("train.steps=true", r"train.steps got True, expected a whole number"),
        ("train.keep_checkpoints=0", r"train.keep_checkpoints got 0, expected at least 1"),
        ("model.channels=2026-01-01", r"model.channels got 2026-01-01, expected text, a number, true or false"),
        ("process.more=[{a=1979-05-27}]", r"process.more.0.a got 1979-05-27, expected text"),
        ('data.source="a\\u0000b"', r"data.source holds a NUL character"),
        ("train.num_previews=100000", r"train.num_previews got 100000, expected 1 to 1024"),
        ("data.augment=['hflip', 'spin']", r"data.augment got 'spin', expected one of hflip, vflip, rot90"),
        ("data.augment=[1]", r"data.augment\[0\] got 1, expected text"),
    ],
)
def test_wrong_settings_are_named(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("digits-unet", [assignment])


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'cats': choose one of aerial-128, digits-sit"):
        config.load("cats")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"\n', "recipe 'mine.toml' extends itself, by mine.toml"),
        ('extends = "digits-unet"\nsteps = 3\n', "has 'steps' outside of a section: put it below one such as .train."),
        ("[train\n", "recipe 'mine.toml' is not TOML: "),
        ('extends = "cats"\n', "unknown recipe 'cats'"),
    ],
)
def test_wrong_recipe_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load("mine.toml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.dates()
    | st.sampled_from(["fp32", "warmup", "digits", 10**30, 1e308, "a\0b", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_recipe_of_anything_is_read_or_refused(data: st.DataObject) -> None:
    """And what is read can be written down."""
    sections = config.load("digits-sit").to_dict()
    for _ in range(data.draw(st.integers(1, 3))):
        section = data.draw(st.sampled_from(sorted(sections)))
        values = sections[section]
        if isinstance(values, dict) and values and data.draw(st.booleans()):
            values[data.draw(st.sampled_from(sorted(values)))] = data.draw(VALUES)
        else:
            sections[section] = data.draw(VALUES)
    with suppress(ConfigError):
        recipe = config.from_dict(sections)
        json.dumps(recipe.to_dict())
        processes.from_dict(recipe.process)
        with torch.device("meta"):
            models.build(recipe.model)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.sampled_from(["[[[[" * 99, "a = " + "[" * 2000, "x" * 9999]))
def test_a_recipe_file_of_anything_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError):  # none of these is a whole recipe
        config.load(str(path))


def test_a_missing_file_is_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("mine.toml", "folder.toml"):
        with pytest.raises(ConfigError, match=rf"no such file '{name}': begin a recipe by dtrain recipes "):
            config.load(name)
    with pytest.raises(ConfigError, match=r"cannot read recipe 'bytes.toml': .*; save it as UTF-8 text"):
        config.load("bytes.toml")


def test_the_comment_at_the_head_says_what_a_recipe_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("# Mine.\n#\n#   indented\n\n# of the model\n[model]\n")
    assert config.about(str(path)) == ["Mine.", "", "  indented"]
    path.write_text("[model]\n")
    assert (config.about(str(path)), config.summary(str(path))) == ([], "")
