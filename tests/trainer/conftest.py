import pytest

from drun.diffusion.process.discrete import DiscreteProcess
from dtrain import config
from dtrain.config import Recipe


@pytest.fixture
def tiny_assignments() -> list[str]:
    """What makes the digits recipe a net of a few thousand weights and 20 steps."""
    return [
        *("model.dim=8", "model.dim_mults=[1,2]", "train.steps=20", "train.batch_size=4", "train.log_every=5"),
        *("train.save_every=10", "train.preview_every=20", "train.num_previews=1", "train.preview_steps=2"),
    ]


@pytest.fixture
def tiny_recipe(tiny_assignments: list[str]) -> Recipe:
    return config.load("digits-unet", tiny_assignments)


@pytest.fixture
def process() -> DiscreteProcess:
    return DiscreteProcess("linear", 1000)
