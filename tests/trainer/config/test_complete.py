"""What follows from `data.image_size`, and what lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drun.errors import ConfigError
from dtrain import config

TEXT = {
    "model": 'name = "SiT"\nsize = { hidden_size = 8, depth = 1, num_heads = 2 }',
    "process": 'kind = "flow"\npath = "linear"\nnoise_time = 1',
    "objective": 'name = "flow"',
    "data": "image_size = 32",
    "train": "steps = 1\nbatch_size = 2",
}


def write(folder: Path, **changed: str | None) -> str:
    """A recipe with some sections changed, or left out where None."""
    sections = {key: text for key, text in (TEXT | changed).items() if text is not None}
    path = folder / "mine.toml"
    path.write_text("\n".join(f"[{key}]\n{text}" for key, text in sections.items()))
    return str(path)


@pytest.mark.parametrize(
    ("model", "side"),
    [
        ('name = "SiT"\nchannels = 3', {"input_size": 32}),
        ('name = "SiT"\nchannels = 1', {"input_size": 32}),
        ('name = "SiT"\nchannels = 4', {"input_size": 4}),
        ('name = "DiT"', {"input_size": 4}),
        ('name = "SiT"\ninput_size = 8', {"input_size": 8}),
        ('name = "SiT"\nchannels = 3\ninput_size = 8', {"input_size": 8}),
        (
            'name = "ViT"\nchannels = 1\npatch_size = 4\nnum_classes = 2\nhidden_size = 8\ndepth = 1\nnum_heads = 1',
            {"image_size": 32},
        ),
        ('name = "OneResUNet"\ndim = 8', {}),
    ],
)
def test_the_side_of_the_input_follows_from_that_of_the_images(
    tmp_path: Path, model: str, side: dict[str, int]
) -> None:
    """Pixels have it, latents an eighth; a latent of another VAE is said."""
    loaded = config.load(write(tmp_path, model=model)).model
    assert {key: loaded[key] for key in ("input_size", "image_size") if key in loaded} == side


def test_it_follows_from_the_command_line_too() -> None:
    assert config.load("digits-sit", ["data.image_size=32"]).model["input_size"] == 32
    assert config.load("sit-s-2", ["data.image_size=512"]).model["input_size"] == 64


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": 'name = "SiT"\ninput_size = 28'}, "input_size is 28 and data.image_size 32, which cannot both be"),
        ({"model": 'name = "SiT"\ninput_size = 64'}, "input_size is 64 and data.image_size 32, which cannot both be"),
        (
            {
                "model": 'name = "ViT"\nchannels = 1\npatch_size = 4\nnum_classes = 2\nhidden_size = 8\ndepth = 1\n'
                "num_heads = 1\nimage_size = 16"
            },
            "model.image_size is 16 and data.image_size 32, which cannot both be: leave model.image_size out",
        ),
        ({"data": "image_size = 100"}, "data.image_size got 100, expected a multiple of 8, for latents are smaller"),
        ({"data": 'image_size = "big"'}, "data.image_size got 'big', expected a whole number"),
        ({"model": 'name = "SiT"\ninput_size = "big"'}, "model.input_size is 'big' and data.image_size 32, which"),
        ({"model": 'name = "Sit"'}, "unknown model 'Sit': choose one of AttentionUNet"),
        ({"model": "name = [3]"}, r"unknown model \[3\]"),
    ],
)
def test_sides_that_cannot_be(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    from dtrain import models

    with pytest.raises(ConfigError, match=message):
        models.build(config.load(write(tmp_path, **changed)).model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": None}, """lacks [model]: usually name = "SiT", """),
        ({"model": "patch_size = 2"}, 'lacks model.name: usually name = "SiT", as in recipe fashion-sit'),
        ({"model": 'name = "TwoResUNet"'}, "lacks model.dim: usually dim = 16, as in recipe fashion-unet"),
        ({"model": 'name = "ViT"'}, "lacks model.patch_size: usually patch_size = 4, as in recipe digits-teacher"),
        ({"process": None}, 'lacks [process]: usually kind = "flow", path = "linear", noise_time = 1, as in recipe '),
        ({"process": 'path = "linear"'}, 'lacks process.kind: usually kind = "flow"'),
        ({"process": 'kind = "discrete"'}, 'lacks process.schedule: usually schedule = "cosine", as in recipe '),
        ({"objective": None}, 'lacks [objective]: usually name = "flow", prediction = "velocity"'),
        ({"objective": "weight = 1"}, 'lacks objective.name: usually name = "flow"'),
        ({"data": None}, "lacks [data]: usually image_size = 28"),
        ({"data": "label_dropout = 0.1"}, "lacks data.image_size: usually image_size = 28"),
        ({"train": None}, "lacks [train]: usually steps = "),
        ({"train": "steps = 5"}, "lacks train.batch_size: usually batch_size = 64"),
        ({"train": "batch_size = 5"}, "lacks train.steps: usually steps = "),
    ],
)  # fmt: skip
def test_what_lacks_is_named_with_its_usual_value(tmp_path: Path, changed: dict[str, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"recipe 'mine' {message}")):
        config.load(write(tmp_path, **changed))


def test_a_setting_that_no_recipe_has_is_looked_up() -> None:
    assert str(config.lacking("objective 'new'", "objective", "angle", {})) == (
        "objective 'new' lacks objective.angle: see 'dtrain settings'"
    )
