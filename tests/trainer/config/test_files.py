"""Recipe files: the package's and the user's, what they extend, and what is wrong with them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import ConfigError
from dtrain import config


def test_an_extending_recipe_changes_what_it_names() -> None:
    base, small, aligned = (config.load(name) for name in ("sit-xl-2", "sit-s-2", "sit-s-2-repa"))
    assert small.model == base.model | {"size": "S"}
    assert (small.process, small.objective, small.train) == (base.process, base.objective, base.train)
    assert aligned.model == small.model
    assert aligned.process == base.process | {"noise_time": 1}
    assert aligned.objective["name"] == "repa"
    assert "prediction" not in aligned.objective
    assert aligned.optimizer == replace(base.optimizer, grad_clip=1.0)


def test_a_recipe_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[model]\nname="OneResUNet"\ndim=8\n[process]\nkind="discrete"\nschedule="linear"\nnum_timesteps=10\n[objective]\nname="ddpm"\n'
        "[data]\nimage_size=8\n[train]\nsteps=1\nbatch_size=2\n"
    )
    assert config.load(str(path)).name == "mine"


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
