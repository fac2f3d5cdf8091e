"""What stays in float32: one table by type. A new family of models adds at most a row, for its last layer."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from dexport.deploy.split import Columns, DenoiserStage
from dexport.deploy.unet import GroupedNorm, ImageNorm
from dtrain.models.transformer.blocks import Block, FinalLayer
from dtrain.models.transformer.embeddings import LabelEmbedding, TimeEmbedding
from dtrain.models.transformer.networks import SiT
from dtrain.models.unet.blocks import TimeMlp
from dtrain.models.unet.networks import UNet
from dtrain.models.vae import Decoder

#: Layers outside islands that compute in the low precision, and what stands in for them in a split denoiser.
WEIGHTED = (nn.Linear, _ConvNd, Columns)
#: Islands whose result goes on in the low precision: sums of squares and of exponentials.
STATISTICS = (nn.LayerNorm, nn.GroupNorm, ImageNorm, GroupedNorm, nn.Softmax)
#: Islands whose result stays float32: the condition, until a layer reads it, and the last layer, whose rounding nothing
#: evens out.
KEPT = (TimeMlp, TimeEmbedding, LabelEmbedding, FinalLayer)
#: A network whose last layer has no type of its own -> the layer's name.
LAST_LAYERS: dict[type[nn.Module], str] = {UNet: "final_conv", Decoder: "decoder.conv_out"}
#: Modules that add to a transformer's residual stream, which is float32 as under autocast, because every block rounds
#: it otherwise: SiT-S/2 with random weights is 8e-3 from float32 in bf16 and 9e-4 in fp16, and with a low residual
#: stream 1.2e-2 and 1.4e-3. It costs no more casts, as the norms that read it are islands anyhow. Those of U-Nets and
#: decoders are short and wide, so they stay low. What a split network adds lies in its stage, which calls it in parts.
RESIDUALS = (SiT, Block, DenoiserStage)


def last_layer(network: nn.Module) -> nn.Module | None:
    """The last layer of a network that is, or holds, one of `LAST_LAYERS`."""
    for module in network.modules():
        for kind, name in LAST_LAYERS.items():
            if isinstance(module, kind):
                return module.get_submodule(name)
    return None
