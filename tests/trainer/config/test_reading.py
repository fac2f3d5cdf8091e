"""The settings of a recipe: the command line goes before the recipe before the defaults, and what is wrong is named."""

import json
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.diffusion import process as processes
from drun.errors import ConfigError
from dtrain import config, models


def test_command_line_beats_recipe_beats_default() -> None:
    assignments = ["train.steps=7", "train.precision=bf16", "data.augment=['hflip']"]
    recipe = config.load("digits-unet", assignments, data="pics/")
    assert (recipe.train.steps, recipe.train.precision, recipe.data.augment) == (7, "bf16", ("hflip",))
    assert recipe.data.source == "pics/"
    assert recipe.train.batch_size == config.load("digits-unet").train.batch_size
    assert recipe.train.keep_checkpoints == 3


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
