"""Published teachers with random weights: of the real size and class, without a download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtrain.teachers.families import TEACHERS
from dtrain.teachers.weights import load_transformers

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


def random_published(name: str, image_size: int, folder: Path) -> Path:
    """Write random weights of the real size and class of a published teacher -> the folder.

    Raises:
        ConfigError: an image size that it cannot take, or transformers is not installed.
    """
    fields, model = published_config(name, image_size), TEACHERS[name].family.model
    library = load_transformers()
    kind = getattr(library, model)
    options = {"add_pooling_layer": False} if model == "ViTModel" else {}
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
