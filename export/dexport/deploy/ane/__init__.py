"""Networks as Apple's Neural Engine computes them best: channels first, pointwise convolutions, a head at a time.

They are the second stage of a split network: its conditioning, with sines and tables, is computed outside.
"""

from __future__ import annotations

from torch import nn

from dexport.deploy.ane.transformer import ChannelsFirst
from dexport.deploy.split import DenoiserStage
from drun.errors import ExportError
from dtrain.models.transformer.networks import SiT
from dtrain.models.unet.networks import UNet


def for_neural_engine(stage: DenoiserStage) -> nn.Module:
    """The same function, (x, c) -> out, as the Neural Engine computes it.

    Raises:
        ExportError: nobody has written this family so.
    """
    network = stage.network
    if isinstance(network, SiT):
        return ChannelsFirst.of(network)
    if isinstance(network, UNet):  # its channels come first, and it has no attention between pixels
        return stage
    raise ExportError(f"nobody has written {type(network).__name__} for the Neural Engine: use --unit gpu")
