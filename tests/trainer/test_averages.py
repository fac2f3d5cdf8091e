"""The laws; that an average obeys them is in train/test_ema.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dtrain import config
from dtrain.averages import decay_at, early_note, followed_old_law, initial_share, late_note, settled_at
from dtrain.config import Ema
from dtrain.train.ema import Average

WARMUP = Ema("warmup", 0.995, every=10)
EVERY_STEP = Ema("warmup", 0.995, every=1)


@pytest.mark.parametrize(("step", "decay"), [(121, 0.869), (201, 0.954), (501, 0.982), (1001, 0.989), (2001, 0.9935)])
def test_warmup_values_of_the_article(step: int, decay: float) -> None:
    assert decay_at(WARMUP, step) == decay_at(EVERY_STEP, step) == pytest.approx(decay, abs=6e-4)


def test_warmup_copies_up_to_step_111_and_is_capped() -> None:
    acting = {step: decay_at(WARMUP, step) for step in range(1, 132) if decay_at(WARMUP, step) is not None}
    assert list(acting) == list(range(1, 132, 10))
    assert [step for step, decay in acting.items() if decay] == [121, 131]
    assert decay_at(WARMUP, 10_001) == 0.995
    assert decay_at(EVERY_STEP, 102) == 0.0 < decay_at(EVERY_STEP, 103)
    assert decay_at(EVERY_STEP, 2900) < 0.995
    assert decay_at(EVERY_STEP, 2960) == 0.995


def test_only_warm_up_averages_of_version_1_followed_another_law() -> None:
    assert followed_old_law(WARMUP, 1)
    assert not followed_old_law(WARMUP, 2)
    assert not followed_old_law(Ema("constant", 0.9, 10), 1)


def test_the_constant_law_acts_at_multiples() -> None:
    assert [step for step in range(1, 31) if decay_at(Ema("constant", 0.9, 10), step) is not None] == [10, 20, 30]


@pytest.mark.parametrize("batch_size", [1, 512])
@pytest.mark.parametrize("every", [1, 4])
def test_the_ramp_is_that_of_edm(every: int, batch_size: int) -> None:
    """Written from the paper's terms: images, and a half-life in images that is at most 5 % of those seen before."""
    law = Ema("ramp", 0.9, every)
    constant_half_life = (
        every
        * batch_size
        * torch.log(torch.tensor(0.5, dtype=torch.float64))
        / torch.log(torch.tensor(0.9, dtype=torch.float64))
    )
    for step in range(every, 400, every):
        seen, images = (step - every) * batch_size, every * batch_size
        half_life = min(float(constant_half_life), 0.05 * seen)
        expected = 0.5 ** (images / max(half_life, 1e-8))
        assert decay_at(law, step) == pytest.approx(expected, rel=1e-12), step
    assert decay_at(law, 4000) == 0.9
    assert [step for step in range(1, 13) if decay_at(law, step) is not None] == list(range(every, 13, every))


def test_recipes_that_do_not_say_it_follow_the_ramp() -> None:
    sections = {key: value for key, value in config.load("digits-unet").to_dict().items() if key != "ema"}
    assert config.from_dict(sections).ema == Ema("ramp", 0.9999, 1)


@pytest.mark.parametrize("name", config.names())
def test_only_recipes_of_papers_keep_initial_weights(name: str) -> None:
    recipe = config.load(name)
    assert recipe.ema.law == {"digits": "ramp", "aerial": "warmup"}.get(name.partition("-")[0], recipe.ema.law)
    assert initial_share(recipe.ema, recipe.train.steps) < 1e-15
    assert late_note(recipe, recipe.train.steps, Path("x.pt")) is None


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("law", ["ramp", "warmup", "constant"])
def test_the_share_is_what_an_average_holds(law: str, every: int) -> None:
    """A weight that starts at 1 and is 0 from the first step on."""
    network, settings = nn.Linear(1, 1, bias=False), Ema(law, 0.97, every)
    nn.init.ones_(network.weight)
    ema = Average(network, settings)
    nn.init.zeros_(network.weight)
    for step in range(200):
        if step:
            ema.update(step)
        assert float(ema.state_dict()["weight"]) == pytest.approx(initial_share(settings, step), rel=1e-4), step


@pytest.mark.parametrize(("decay", "step", "share"), [
    (0.995, 300, 0.2223), (0.9999, 5000, 0.6065), (0.9999, 400_000, 4.2e-18),
])  # fmt: skip
def test_shares_of_long_runs(decay: float, step: int, share: float) -> None:
    assert initial_share(Ema("constant", decay, 1), step) == pytest.approx(share, rel=0.01)
    assert initial_share(Ema("ramp", decay, 1), step) == 0


@pytest.mark.parametrize("law", [
    *(Ema("constant", decay, every) for decay in (0, 0.005, 0.5, 0.9, 0.995, 0.9999) for every in (1, 10)),
    Ema("ramp", 0.99, 1), Ema("ramp", 0.99, 10), EVERY_STEP, WARMUP,
])  # fmt: skip
def test_an_average_is_settled_at_the_first_step_of_at_most_1_percent(law: Ema) -> None:
    assert initial_share(law, settled_at(law)) <= 0.01 < initial_share(law, settled_at(law) - 1)


# ---- in words -------------------------------------------------------------------------------------------


def test_a_short_run_is_told_at_its_start_and_at_its_end() -> None:
    paper = config.load("sit-xl-2", ["train.steps=5000"])
    assert early_note(paper, 0) == (
        "the average holds more than 1 % of the initial weights until step 46,050, and this run ends at 5,000: before "
        "that look at the online half of a preview, or train with --set ema.law=ramp, which holds none"
    )
    assert late_note(paper, 5000, Path("x.pt")) == (
        "the average in 'x.pt' still holds 60.7 % of the initial weights at step 5,000 and may draw noise: export "
        "--weights online, train longer, or train with --set ema.law=ramp"
    )


def test_a_papers_long_run_is_told_once_when_it_is_settled() -> None:
    paper = config.load("sit-xl-2")
    assert "until step 46,050: before that" in str(early_note(paper, 0))
    assert early_note(paper, 40_000) is None  # resumed; the next preview is of step 50,000
    assert "until step 46,050: before that" in str(early_note(paper, 39_999))
    assert late_note(paper, 400_000, Path("x.pt")) is None


def test_own_recipes_are_told_nothing() -> None:
    recipe = config.load("digits-sit", ["train.steps=1"])
    assert early_note(recipe, 0) is late_note(recipe, 1, Path("x.pt")) is None
    constant = replace(recipe, ema=Ema("constant", 0.0, 1))
    assert early_note(constant, 0) is None
