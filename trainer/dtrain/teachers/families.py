"""The published teachers, one row a network. A family says how REPA prepares its images and which tokens it takes.

The order of operations is REPA's (Yu et al. 2024, arXiv:2410.06940; github.com/sihyun-yu/REPA, utils.py and
train.py), which differs from what the image processors of transformers do.
"""

from __future__ import annotations

from dataclasses import dataclass

from drun.errors import ConfigError

Colour = tuple[float, float, float]

#: Mean and standard deviation of the channels of images in [0, 1].
IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Colour, Colour] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

#: A teacher with patches of 14 sees 224 pixels for every 256 of the image: as many tokens as patches of 16 give.
SEEN, OF = 224, 256


@dataclass(frozen=True)
class Family:
    model: str  # class of transformers
    model_types: tuple[str, ...]  # the names that its config.json may have
    patch_size: int  # pixels
    resize: str = "never"  # to 224 of 256: `before` or `after` the normalisation; `never`: as it is
    resample: bool = True  # the position embedding is resampled to the grid; else it has to fit
    final_norm: bool = True  # features after the last LayerNorm, or before it
    epsilon: float = 1e-6  # of every LayerNorm in the official code; some Hub configs say 1e-12
    normalisation: tuple[Colour, Colour] = IMAGENET

    def input_size(self, image_size: int, name: str) -> int:
        """The side in pixels of the network's input for an image of side `image_size`. name: the teacher's.

        Raises:
            ConfigError: a size that gives no whole grid of patches.
        """
        unit = self.patch_size if self.resize == "never" else OF
        if image_size < 1 or image_size % unit or (not self.resample and image_size != unit):
            expected = f"a multiple of {unit}" if self.resample else f"{unit}"
            got = f"teacher '{name}' got images of {image_size} pixels"
            raise ConfigError(f"{got}, expected {expected}: choose another teacher")
        return image_size if self.resize == "never" else SEEN * (image_size // OF)


@dataclass(frozen=True)
class Variant:
    family: Family
    hub: str = ""  # Hugging Face repository; empty: nowhere published there
    num_heads: int = 0  # a fact that an official checkpoint file does not state; 0: no such file is read


DINOV2 = Family("Dinov2Model", ("dinov2",), 14, resize="after")
DINOV2_REG = Family("Dinov2WithRegistersModel", ("dinov2_with_registers",), 14, resize="after")
VIT = Family("ViTModel", ("vit",), 16)
# The class that transformers has for MAE masks and shuffles the patches, also in inference: hence the plain one.
MAE = Family("ViTModel", ("vit_mae", "vit"), 16, final_norm=False)
CLIP_VIT = Family(
    "CLIPVisionModel",
    ("clip", "clip_vision_model"),
    14,
    resize="before",
    resample=False,
    epsilon=1e-5,
    normalisation=CLIP,
)
JEPA = Family("IJepaModel", ("ijepa",), 14, resize="after", resample=False)

TEACHERS: dict[str, Variant] = {
    "dinov2-vit-s": Variant(DINOV2, "facebook/dinov2-small"),
    "dinov2-vit-b": Variant(DINOV2, "facebook/dinov2-base"),
    "dinov2-vit-l": Variant(DINOV2, "facebook/dinov2-large"),
    "dinov2-vit-g": Variant(DINOV2, "facebook/dinov2-giant"),
    "dinov2-reg-vit-s": Variant(DINOV2_REG, "facebook/dinov2-with-registers-small"),
    "dinov2-reg-vit-b": Variant(DINOV2_REG, "facebook/dinov2-with-registers-base"),
    "dinov2-reg-vit-l": Variant(DINOV2_REG, "facebook/dinov2-with-registers-large"),
    "dinov2-reg-vit-g": Variant(DINOV2_REG, "facebook/dinov2-with-registers-giant"),
    "dinov1-vit-s": Variant(VIT, "facebook/dino-vits16", num_heads=6),
    "dinov1-vit-b": Variant(VIT, "facebook/dino-vitb16", num_heads=12),
    "mae-vit-b": Variant(MAE, "facebook/vit-mae-base", num_heads=12),
    "mae-vit-l": Variant(MAE, "facebook/vit-mae-large", num_heads=16),
    "mocov3-vit-s": Variant(VIT, num_heads=12),
    "mocov3-vit-b": Variant(VIT, "nyu-visionx/moco-v3-vit-b", num_heads=12),
    "mocov3-vit-l": Variant(VIT, "nyu-visionx/moco-v3-vit-l", num_heads=16),
    "clip-vit-l": Variant(CLIP_VIT, "openai/clip-vit-large-patch14"),
    "jepa-vit-h": Variant(JEPA, "facebook/ijepa_vith14_1k"),
}
