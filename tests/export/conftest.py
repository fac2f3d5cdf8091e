from pathlib import Path

import pytest
import torch

from dtrain import checkpoint, config, models
from dtrain.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ours with a tiny net whose weights are nowhere zero, and online weights that differ."""
    # A linear schedule, because trajectories of very few steps are ill-conditioned on the end of a cosine.
    assignments = ["model.dim=8", "model.dim_mults=[1,2]", "process.schedule=linear", "train.steps=1"]
    recipe = config.load("digits-unet", assignments)
    torch.manual_seed(0)
    network = models.build(recipe.model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    ema = network.state_dict()
    online = {key: value + 0.1 for key, value in ema.items()}
    folder = tmp_path_factory.mktemp("run")
    return checkpoint.save(Checkpoint(recipe, 1, online, ema, {}), folder, keep=1)
