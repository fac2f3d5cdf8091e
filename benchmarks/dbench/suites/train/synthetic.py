"""Makes random images, latents and teachers of the real shapes, on which training is timed.

The time of a step depends on shapes and types, not on what the images show or what a teacher has learnt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dbench.core.stand_ins import random_published
from drun.files import write_json
from dtrain import config, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe
from dtrain.data import latent_index, latents
from dtrain.data.shards import save_shard
from dtrain.teachers import TEACHERS

SEED = 0
#: Standard deviation of a latent's posterior; its mean is N(0, 1).
POSTERIOR_STD = 0.1


def write_data(recipe: Recipe, folder: Path, num_images: int) -> Path:
    """Random images, or latents and images, of the shapes and with the labels that a recipe trains on.

    Returns:
        The `data.source`: a folder as `dtrain encode` leaves it, a folder of classes, or an .npy stack.
    """
    rng, side = np.random.default_rng(SEED), recipe.data.image_size
    network = models.outline(recipe.model)
    labels = rng.integers(network.classes.count, size=num_images) if network.classes else None
    state_shape = network.state_shape(side)
    if state_shape[1] != side:
        return _write_latents(recipe, (num_images, *state_shape), folder / "latents", labels, rng)
    shape = (num_images, side, side) if state_shape[0] == 1 else (num_images, side, side, 3)
    images = rng.integers(256, size=shape, dtype=np.uint8)
    if labels is not None:
        return _write_classes(images, labels, folder / "images")
    np.save(folder / "images.npy", images)
    return folder / "images.npy"


def _write_latents(
    recipe: Recipe,
    shape: tuple[int, int, int, int],
    folder: Path,
    labels: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> Path:
    """shape: (N, C, h, w)."""
    num_images, channels, side = *shape[:2], recipe.data.image_size
    mean = rng.standard_normal(shape, dtype=np.float32)
    moments = np.concatenate([mean, np.full_like(mean, POSTERIOR_STD)], axis=1)
    folder.mkdir()
    save_shard(folder, latents.MOMENTS, 0, moments)
    flipped = "hflip" in recipe.data.augment
    if flipped:
        save_shard(folder, latents.FLIPPED, 0, moments[..., ::-1])
    save_shard(folder, latents.IMAGES, 0, rng.integers(256, size=(num_images, side, side, 3), dtype=np.uint8))
    index = latent_index.FORMAT | {
        "image_size": side,
        "shape": mean.shape[1:],
        "scale": [1.0] * channels,
        "bias": [0.0] * channels,
        "vae": {"name": "none: random latents", "fingerprint": ""},
        "shard_size": num_images,
        "classes": None,
        "flipped": flipped,
        "labels": None if labels is None else labels.tolist(),
        "names": [f"{i}.png" for i in range(num_images)],
    }
    write_json(folder / latents.INDEX, index)
    return folder


def _write_classes(images: NDArray[np.uint8], labels: NDArray[np.int64], folder: Path) -> Path:
    """A stack has no labels: a folder for each class."""
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / f"{label:06d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


# ---- teachers -------------------------------------------------------------------------------------------


def stand_in(spec: str, image_size: int, folder: Path) -> str:
    """A spec that `dtrain.teachers.load` takes instead of the teacher `spec`, without a download.

    A published name, or a run's folder that is not there but is called like a recipe of a teacher, gives random
    weights of the real size and class, written to `folder`; another spec is given back as it is.

    Raises:
        ConfigError: an image size that the teacher cannot take, or transformers is not installed.
    """
    if spec in TEACHERS:
        return f"{spec}={random_published(spec, image_size, folder / spec)}"
    name = Path(spec).name
    if not Path(spec).exists() and name in config.names():
        recipe = config.load(name)
        if issubclass(models.available()[str(recipe.model["name"])], models.Encoder):
            return str(_write_own(recipe, folder / name))
    return spec


def _write_own(recipe: Recipe, folder: Path) -> Path:
    state = models.build(recipe.model).state_dict()
    return checkpoint.save(Checkpoint(recipe, 1, state, state, {}), folder, 1)
