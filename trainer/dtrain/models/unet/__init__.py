"""U-Nets of ConvNeXt-like blocks that predict the noise in an image: one, two or two gated skips per level.

The state-dict keys and their order are those of the aerial-imagery DDPM that these networks come from, so its
checkpoints load: the numbers in the keys (`downs.0.2.net.1.weight`) are positions in the lists that are built here.
"""

from __future__ import annotations

from dtrain.models import Network
from dtrain.models.unet.networks import AttentionUNet, OneResUNet, TwoResUNet

MODELS: dict[str, type[Network]] = {net.__name__: net for net in (OneResUNet, TwoResUNet, AttentionUNet)}
