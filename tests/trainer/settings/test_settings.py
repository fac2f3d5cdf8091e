"""The list of settings is the code's own."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from drun.diffusion.process import KINDS
from drun.errors import ConfigError
from dtrain import config, models, objectives, settings
from dtrain.config import Data, Ema, Optimizer, Train
from dtrain.settings import FOLLOWS, NEEDED, Entry


def by_key(section: str, name: str = "") -> dict[str, Entry]:
    return {entry.key: entry for entry in settings.entries(section, name)}


@pytest.mark.parametrize("kind", [Data, Optimizer, Ema, Train])
def test_every_field_of_a_section_is_listed(kind: type) -> None:
    assert set(by_key(kind.__name__.lower())) == {field.name for field in fields(kind)} - set(config.KNOWN_FROM_DATA)


@pytest.mark.parametrize("name", models.available())
def test_every_keyword_of_a_model_is_listed(name: str) -> None:
    assert list(by_key("model", name)) == list(inspect.signature(models.available()[name]).parameters)


@pytest.mark.parametrize("name", objectives.names())
def test_every_option_of_an_objective_is_listed(name: str) -> None:
    told = {"process", "device", "image_size"}
    assert set(by_key("objective", name)) == set(inspect.signature(objectives.load(name)).parameters) - told


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_a_process_is_listed(name: str) -> None:
    assert list(by_key("process", name)) == [field.name for field in fields(KINDS[name])]


def test_every_setting_says_what_it_means_and_is_listed_once() -> None:
    keys = [(listing.section, listing.names, entry.key) for listing in settings.listings() for entry in listing.entries]
    assert len(set(keys)) == len(keys)
    unsaid = [
        (listing.section, entry.key) for listing in settings.listings() for entry in listing.entries
        if len(entry.help) < 6 or "\n" in entry.help
    ]  # fmt: skip
    assert unsaid == []
    assert {name for listing in settings.listings() for name in listing.names} == {
        *models.available(), *KINDS, *objectives.names(),
    }  # fmt: skip


def test_defaults_are_those_of_the_code() -> None:
    train, sit, flow = by_key("train"), by_key("model", "SiT"), by_key("process", "flow")
    assert (train["steps"].default, train["seed"].default, train["precision"].default) == (NEEDED, "0", '"auto"')
    assert train["precision"].help.endswith("auto | fp32 | bf16 | fp16")
    assert (sit["input_size"].default, sit["size"].default, sit["qk_norm"].default) == (FOLLOWS, '"B"', "false")
    assert by_key("model", "TwoResUNet")["init_dim"].default == ""
    assert (flow["path"].default, flow["margin"].default) == (NEEDED, "0.0")  # a default path would be a silent guess


def test_docstrings_are_read_to_their_end_and_those_of_classes_above_count() -> None:
    class Above:
        """Something.

        width: of it; nothing
            else.
        depth, height: of both.
        """

    class Below(Above):
        """Other.

        Args:
            angle: in degrees, `0` is up.
        No setting: this.
        """

        def __init__(self, width: int, depth: int, height: int, angle: float, other: int) -> None: ...

    assert settings.documented(Below) == {
        "width": "of it; nothing else", "depth": "of both", "height": "of both", "angle": "in degrees, 0 is up",
        "other": "",
    }  # fmt: skip


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown process 'cat': choose one of discrete, flow"):
        list(settings.entries("process", "cat"))


def test_every_setting_is_one_that_a_recipe_takes() -> None:
    recipe = config.load("digits-unet").to_dict()
    assert {listing.section for listing in settings.listings()} == recipe.keys() - {"name"}
