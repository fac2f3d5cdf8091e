"""Completes recipes: sides follow from `data.image_size`; other missing settings are named with their usual values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from inspect import Parameter
from typing import Any

from drun.diffusion.process import REQUIRED as OF_PROCESS
from drun.errors import ConfigError
from dtrain.config import files
from dtrain.config.sections import SECTIONS, Recipe
from dtrain.config.toml import pairs

Sections = Mapping[str, Mapping[str, Any]]

#: The keys that decide the meaning of the other keys of a section.
KINDS = {"model": "name", "process": "kind", "objective": "name"}
#: The recipes in which usual values are looked for first.
EXAMPLES = ("fashion-unet", "fashion-sit")
#: The keywords of models for the side of their input, in pixels of the image or of the latent.
SIDES = (INPUT_SIDE, IMAGE_SIDE) = ("input_size", "image_size")
#: The side of an image over the side of its latent, for the VAE of Stable Diffusion, which DiT and SiT use, and similar
#: ones.
VAE_FACTOR = 8
#: The numbers of channels of pixels, grey or RGB. A model of another number draws latents.
PIXEL_CHANNELS = (1, 3)


# ---- what follows ---------------------------------------------------------------------------------------


def with_side(sections: Sections) -> dict[str, Any]:
    """The section `model`, completed with the side of the model's input where the recipe leaves it out.

    The side is that of the images, and for latents an eighth of it.

    Raises:
        ConfigError: a side that no image of this size has.
    """
    model, image_size = dict(sections["model"]), sections["data"]["image_size"]
    parameters = _parameters(model)
    key = next((key for key in SIDES if key in parameters), None)
    if key is None or type(image_size) is not int or image_size < 1:
        return model
    if key in model:
        _check_side(key, model[key], image_size)
        return model
    channels = model.get("channels", parameters["channels"].default)
    factor = 1 if key == IMAGE_SIDE or channels in PIXEL_CHANNELS else VAE_FACTOR
    if image_size % factor:
        raise ConfigError(f"data.image_size got {image_size}, expected a multiple of {factor}, for latents are smaller")
    return model | {key: image_size // factor}


def _check_side(key: str, side: Any, image_size: int) -> None:
    is_side = type(side) is int and side >= 1
    if not is_side or (image_size != side if key == IMAGE_SIDE else image_size % side):
        raise ConfigError(
            f"model.{key} is {side!r:.40} and data.image_size {image_size}, which cannot both be: leave model.{key} "
            "out, it follows"
        )


def _parameters(model: Mapping[str, Any]) -> Mapping[str, Parameter]:
    from dtrain import models  # imported here because it imports torch, which listing the recipes does not need

    return models.parameters(model.get("name"))


# ---- what lacks -----------------------------------------------------------------------------------------


def check_complete(name: str, sections: Sections) -> None:
    """Check that a recipe has everything that every recipe must have.

    Objectives check their own options when they are built.

    Raises:
        ConfigError: a section or key is missing; the message has the usual one.
    """
    for section in (field.name for field in fields(Recipe) if _is_required(field)):
        if section != "name" and section not in sections:
            raise lacking(f"recipe '{name}'", section, None, sections)
        for key in _required(section, sections) if section != "name" else ():
            if key not in sections[section]:
                raise lacking(f"recipe '{name}'", section, key, sections)


def _required(section: str, sections: Sections) -> Iterator[str]:
    if section in SECTIONS:
        yield from (field.name for field in fields(SECTIONS[section]) if _is_required(field))
        return
    yield KINDS[section]
    if section == "process":
        yield from OF_PROCESS.get(str(sections[section].get("kind")), ())
    if section == "model":
        parameters = _parameters(sections[section])
        needed = (key for key, parameter in parameters.items() if parameter.default is Parameter.empty)
        yield from (key for key in needed if key not in SIDES)


def _is_required(field: Any) -> bool:
    return field.default is field.default_factory is MISSING


def lacking(whole: str, section: str, key: str | None, sections: Sections) -> ConfigError:
    """An error that names what is missing, and what the most similar recipe has there.

    Args:
        whole: where it is missing, such as "recipe 'mine'".
        key: None if the whole section is missing.
    """
    what = f"[{section}]" if key is None else f"{section}.{key}"
    for name in sorted(_examples(), key=lambda name: -_likeness(files.sections(name), sections)):
        there = files.sections(name).get(section, {})
        if key is None or (key in there and _same_kind(section, there, sections)):
            usual = pairs(dict(there) if key is None else {key: there[key]})
            return ConfigError(f"{whole} lacks {what}: usually {usual}, as in recipe {name}")
    return ConfigError(f"{whole} lacks {what}: see 'dtrain settings'")


def _examples() -> list[str]:
    return [*EXAMPLES, *(name for name in files.names() if name not in EXAMPLES)]


def _likeness(example: Sections, sections: Sections) -> int:
    pairs = ((example[section].get(key), sections.get(section, {}).get(key)) for section, key in KINDS.items())
    return sum(there == here for there, here in pairs)


def _same_kind(section: str, there: Mapping[str, Any], sections: Sections) -> bool:
    key = KINDS.get(section)
    return key is None or key not in sections.get(section, {}) or there.get(key) == sections[section][key]
