"""A small convolutional classifier (after LeCun et al. 1998), whose features judge images."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from drun.bundle.card import Classes
from drun.errors import ConfigError
from dtrain.models import Encoder, Network
from dtrain.models.transformer.sizes import check_image

#: Channels that are normalised together (Wu & He 2018).
GROUP = 8
#: What two strided convolutions divide a side by.
STRIDE = 4


class CNN(Encoder):
    """Class logits from the mean of a map of features, a quarter of the image's side.

    image_size: side of the image in pixels, a multiple of 4.
    channels: channels of the image.
    num_classes: number of labels.
    width: features of a token, a multiple of 32.

    Raises ConfigError for sizes that make no net.
    """

    def __init__(self, image_size: int, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        for name, value, least, multiple in (
            ("image_size", image_size, STRIDE, STRIDE), ("width", width, 4 * GROUP, 4 * GROUP),
            ("num_classes", num_classes, 1, 1), ("channels", channels, 1, 1),
        ):  # fmt: skip
            if value < least or value % multiple:
                what = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
                raise ConfigError(f"{name} got {value}, expected {what} from {least} on")
        self.config: dict[str, Any] = {
            "name": type(self).__name__,
            "image_size": image_size,
            "channels": channels,
            "num_classes": num_classes,
            "width": width,
        }
        self.image_size, self.channels, self.hidden_size = image_size, channels, width
        self.classes = Classes(num_classes, None)
        self.num_tokens = (image_size // STRIDE) ** 2
        self.layers = nn.Sequential(
            *_layer(channels, width // 4, 1),
            *_layer(width // 4, width // 2, 2),
            *_layer(width // 2, width, 2),
            *_layer(width, width, 1),
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, image_size, image_size) float -> (N, num_classes) logits. Raises as `tokens`."""
        logits: Tensor = self.head(self.tokens(x).mean(dim=1))
        return logits

    def tokens(self, x: Tensor) -> Tensor:
        check_image(type(self).__name__, x, self.channels, self.image_size)
        features: Tensor = self.layers(x)
        return features.flatten(2).transpose(1, 2)


def _layer(inside: int, outside: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inside, outside, 3, stride, padding=1), nn.GroupNorm(outside // GROUP, outside), nn.SiLU()


MODELS: dict[str, type[Network]] = {"CNN": CNN}
