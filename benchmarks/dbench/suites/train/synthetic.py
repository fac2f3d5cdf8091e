"""Makes random images, latents and teachers of the real shapes, on which training is timed.

The time of a step depends on shapes and types, not on what the images show or what a teacher has learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drun.files import write_json
from dtrain import config, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe
from dtrain.data import latent_index, latents
from dtrain.data.shards import save_shard
from dtrain.teachers.families import TEACHERS, Variant
from dtrain.teachers.weights import load_transformers

SEED = 0
#: Standard deviation of a latent's posterior; its mean is N(0, 1).
POSTERIOR_STD = 0.1
#: The sizes of Dosovitskiy et al. 2021, table 1, Touvron et al. 2021 (S) and Oquab et al. 2024 (g), as configurations
#: of transformers call them.
SIZES: dict[str, dict[str, Any]] = {
    "s": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "b": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "l": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "h": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16},
    "g": {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
}
#: The image size of the published weights' position embeddings, pixels.
DINOV2_SIDE, VIT_SIDE = 518, 224


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
        return f"{spec}={_write_published(spec, TEACHERS[spec], image_size, folder / spec)}"
    name = Path(spec).name
    if not Path(spec).exists() and name in config.names():
        recipe = config.load(name)
        if recipe.objective.get("name") == "classify":
            return str(_write_own(recipe, folder / name))
    return spec


def published_config(name: str, image_size: int) -> dict[str, Any]:
    """The fields of the real configuration of a published teacher that its speed follows from.

    Raises:
        ConfigError: an image size that it cannot take.
    """
    variant = TEACHERS[name]
    family, size = variant.family, SIZES[name.rpartition("-")[2]]
    side = family.input_size(image_size, name)
    if family.resample:
        side = DINOV2_SIDE if family.model.startswith("Dinov2") else VIT_SIDE
    fields = size | {"image_size": side, "patch_size": family.patch_size, "layer_norm_eps": family.epsilon}
    if variant.num_heads:  # MoCo-v3's S has 12
        fields["num_attention_heads"] = variant.num_heads
    return fields if family.model.startswith("Dinov2") else fields | {"intermediate_size": 4 * size["hidden_size"]}


def _write_published(name: str, variant: Variant, image_size: int, folder: Path) -> Path:
    fields = published_config(name, image_size)
    library = load_transformers()
    kind = getattr(library, variant.family.model)
    options = {"add_pooling_layer": False} if variant.family.model == "ViTModel" else {}
    network = kind(kind.config_class(**fields), **options)
    with _no_bars(library):
        network.save_pretrained(folder)
    return folder


@contextmanager
def _no_bars(library: Any) -> Iterator[None]:
    shown = library.logging.is_progress_bar_enabled()
    library.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.logging.enable_progress_bar()


def _write_own(recipe: Recipe, folder: Path) -> Path:
    state = models.build(recipe.model).state_dict()
    return checkpoint.save(Checkpoint(recipe, 1, state, state, {}), folder, 1)
