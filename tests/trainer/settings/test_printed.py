"""Recipes that are printed whole load to the same ones."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dtrain import config, settings
from dtrain.settings.printed import WIDTH, list_lines, recipe_lines


def printed(name: str) -> str:
    return "\n".join(recipe_lines(config.load(name), config.about(name))) + "\n"


@pytest.mark.parametrize("name", config.names())
def test_a_printed_recipe_is_the_same_and_stands_alone(name: str, tmp_path: Path) -> None:
    path, text = tmp_path / f"{name}.toml", printed(name)
    path.write_text(text)
    assert config.load(str(path)) == config.load(name)
    assert "extends" not in tomllib.loads(text)
    assert config.about(str(path)) == config.about(name)
    assert all(len(line) <= max(WIDTH, len(config.summary(name)) + 2) for line in text.splitlines())


@pytest.mark.parametrize("name", ["fashion-sit", "digits-sit-repa", "aerial-128"])
def test_every_setting_is_in_it(name: str) -> None:
    recipe, lines = config.load(name), printed(name).splitlines()
    for section, kind in (("model", "name"), ("process", "kind"), ("objective", "name")):
        for entry in settings.entries(section, getattr(recipe, section)[kind]):
            assert any(line.removeprefix("#").startswith(f"{entry.key} =") for line in lines)
    assert f"steps = {recipe.train.steps}".replace("37000", "37_000") in "\n".join(lines)


def test_another_image_size_needs_no_second_change(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(printed("fashion-sit").replace("image_size = 28", "image_size = 64"))
    assert config.load(str(path)).model["input_size"] == 64


def test_a_side_of_another_vae_is_kept(tmp_path: Path) -> None:
    recipe = config.load("sit-s-2", ["model.input_size=16"])
    (tmp_path / "sit-s-2.toml").write_text("\n".join(recipe_lines(recipe, [])))
    assert config.load(str(tmp_path / "sit-s-2.toml")) == recipe


def test_the_list_has_a_line_for_each_setting() -> None:
    lines = list(list_lines())
    assert sum(line.startswith("  ") for line in lines) == sum(len(each.entries) for each in settings.listings())
    assert any(line.split()[:2] == ["train.seed", "0"] and "random number" in line for line in lines)
    assert '[model] name = "DiT" or "SiT"' in lines
