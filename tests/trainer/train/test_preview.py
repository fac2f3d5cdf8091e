from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from drun.diffusion import process as processes
from drun.diffusion.noise import PhiloxNoise
from drun.run import images
from dtrain import config, models
from dtrain.config import Ema, Recipe
from dtrain.train.preview import draw_preview

SMALL = [
    "model.size={hidden_size=16,depth=1,num_heads=2}", "model.num_classes=3", "train.num_previews=4",
    "train.preview_steps=3",
]  # fmt: skip
CPU = torch.device("cpu")
SHAPE = (1, 16, 16)
LINE = 18


def awake(recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = models.build(recipe.model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return dict(network.state_dict())


@pytest.fixture
def recipe() -> Recipe:
    return config.load("digits-sit", SMALL)


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of 2 x 2 images each; a name may be wider."""
    grid_width = 2 * 66 + 2
    return picture[LINE:, :grid_width], picture[LINE:, grid_width : 2 * grid_width]


@torch.no_grad()
def euler(recipe: Recipe, state: dict[str, torch.Tensor], labels: list[int]) -> np.ndarray:
    """The flow's Euler steps, which DDIM's are: dx = v dt, with x0 = x - t v clipped, from t = 1 to 0."""
    network = models.build(recipe.model).eval()
    network.load_state_dict(state)
    x = torch.from_numpy(PhiloxNoise(0, range(4), SHAPE)())
    times = torch.linspace(1, 0, 4).tolist()
    for t, s in pairwise(times):
        x0 = (x - t * network(x, torch.full((4,), t), torch.tensor(labels))).clip(-1, 1)
        x = x0 + s / t * (x - x0)
    return x.numpy()


def test_both_halves_are_drawn_from_the_same_noise(recipe: Recipe) -> None:
    assert processes.from_dict(recipe.process).noise_time == 1
    online, average = awake(recipe, 0), awake(recipe, 1)
    picture = draw_preview(recipe, 5, online, average, "velocity", SHAPE, CPU)
    for half, state in zip(halves(picture), (online, average), strict=True):
        expected = images.grid(images.to_uint8(euler(recipe, state, [0, 1, 2, 0])))
        np.testing.assert_allclose(half.astype(int), expected.astype(int), atol=1)
    same = halves(draw_preview(recipe, 5, online, online, "velocity", SHAPE, CPU))
    np.testing.assert_array_equal(same[0], same[1])


def names(picture: np.ndarray) -> np.ndarray:
    return picture[:LINE]


def test_the_names_say_what_the_average_still_holds(recipe: Recipe) -> None:
    state = awake(recipe, 0)

    def named(law: Ema) -> np.ndarray:
        return names(draw_preview(replace(recipe, ema=law), 5, state, state, "velocity", SHAPE, CPU))

    def written(text: str) -> np.ndarray:
        return names(images.beside({name: np.zeros((1, 134, 1), np.uint8) for name in ("online", text)}))

    np.testing.assert_array_equal(named(Ema("ramp", 0.99, 1)), written("EMA"))
    np.testing.assert_array_equal(named(Ema("constant", 0.9, 1)), written("EMA, 59 % initial weights"))
    np.testing.assert_array_equal(named(Ema("ramp", 0.99, 10)), written("EMA, 100 % initial weights"))


@pytest.mark.parametrize(
    ("class_names", "written"), [(("coat", "bag", "shirt"), ["coat", "bag", "shirt", "coat"]),
                                 (("coat", "bag"), ["coat", "bag", "2", "coat"])]
)  # fmt: skip
def test_classes_are_named_where_the_data_names_them(recipe: Recipe, class_names: Any, written: list[str]) -> None:
    state = awake(recipe, 0)
    named = replace(recipe, data=replace(recipe.data, class_names=class_names))
    picture = draw_preview(named, 5, state, state, "velocity", SHAPE, CPU)
    expected = images.grid(images.to_uint8(euler(recipe, state, [0, 1, 2, 0])), names=written)
    np.testing.assert_allclose(halves(picture)[0].astype(int), expected.astype(int), atol=1)


def test_latents_are_shown_as_false_colours(recipe: Recipe) -> None:
    latent = {"vae": "tiny", "scale": [1.0] * 4, "bias": [0.0] * 4}
    wide = replace(recipe, model=recipe.model | {"channels": 4}, data=replace(recipe.data, latent=latent))
    state = awake(wide, 0)
    picture = draw_preview(wide, 5, state, state, "velocity", (4, 16, 16), CPU)
    assert picture.shape == (LINE + 2 * 66 + 2, 2 * (2 * 66 + 2), 3)
    assert picture[LINE:].std() > 10


def test_weights_that_diverged_leave_their_half_black_and_are_said(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    state = awake(recipe, 0)
    broken = {key: torch.full_like(value, float("nan")) for key, value in state.items()}
    online, average = halves(draw_preview(recipe, 5, broken, state, "velocity", SHAPE, CPU))
    np.testing.assert_array_equal(online, images.grid(np.zeros((4, 16, 16, 1), np.uint8)))
    assert average.std() > 10
    assert "step 5, online: the preview is black, for the network draws what is not finite" in capsys.readouterr().err
