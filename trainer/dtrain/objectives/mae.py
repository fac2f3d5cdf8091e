"""Masked autoencoding (MAE: He et al. 2022), which trains a teacher of features without labels.

The encoder sees a few patches of each image, a small decoder paints the others from what it says about these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drun.diffusion.process import Process
from drun.errors import ConfigError
from dtrain.models.transformer.embeddings import position_table
from dtrain.models.transformer.layers import initialise_maps
from dtrain.models.vit import EncoderBlock, ViT
from dtrain.objectives import Batch, Losses, Plain

#: Heads of the decoder, and the smallest spread by which a patch is divided.
HEADS, EPSILON = 4, 1e-6


class Objective(Plain):
    """Mean squared error of the hidden patches, each normalised by its own mean and spread (section 4.1).

    Args:
        process, device: unused.
        hidden_share: of the patches, 0.75 in the paper.
        decoder_width: of the decoder's tokens, a multiple of 4.
        decoder_depth: blocks of the decoder.

    Raises:
        ConfigError: a share that hides nothing or everything, or a decoder that is none.
    """

    prediction = None

    def __init__(
        self,
        process: Process,
        device: torch.device,
        hidden_share: float = 0.75,
        decoder_width: int = 64,
        decoder_depth: int = 2,
    ) -> None:
        if not 0 < hidden_share < 1:
            raise ConfigError(f"objective.hidden_share got {hidden_share}, expected between 0 and 1")
        if decoder_width < HEADS or decoder_width % HEADS or decoder_depth < 1:
            got = f"{decoder_width} and {decoder_depth}"
            raise ConfigError(
                f"objective.decoder_width and decoder_depth got {got}, expected a multiple of {HEADS}, and 1 or more"
            )
        self.hidden_share, self.decoder_width, self.decoder_depth = hidden_share, decoder_width, decoder_depth

    def wrap(self, network: nn.Module) -> nn.Module:
        if not isinstance(network, ViT) or network.classes is not None:
            name = type(network).__name__
            raise ConfigError(f"objective mae trains a ViT without classes, got {name}: set model.num_classes=0")
        shown = round(network.num_tokens * (1 - self.hidden_share))
        if not 0 < shown < network.num_tokens:
            raise ConfigError(
                f"objective.hidden_share got {self.hidden_share}, which shows {shown} of {network.num_tokens} patches"
            )
        self.num_tokens = network.num_tokens
        return MaskedAutoencoder(network, shown, PatchDecoder(network, self.decoder_width, self.decoder_depth))

    def loss(self, module: nn.Module, batch: Batch) -> Losses:
        order = batch.draws.normal(self.num_tokens).argsort(dim=1)
        return {"loss": module(batch.x0, order)}


class MaskedAutoencoder(nn.Module):
    """forward(x, order) -> the loss.

    Args:
        shown: how many patches the network sees.
    """

    def __init__(self, network: ViT, shown: int, decoder: PatchDecoder) -> None:
        super().__init__()
        self.network, self.shown, self.decoder = network, shown, decoder

    def forward(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """x: (N, C, H, W) -> scalar.

        order: (N, T) the patches in random order, of which the first are shown; None: as they lie.
        """
        if order is None:
            order = torch.arange(self.network.num_tokens, device=x.device).expand(len(x), -1)
        tokens = self.network.encode(taken(self.network.embed(x), order[:, : self.shown]))
        painted = self.decoder(tokens, order).float()
        loss: Tensor = (painted - taken(self.patches(x), order[:, self.shown :])).square().mean()
        return loss

    def patches(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, T, C patch_size^2) float32, each patch with mean 0 and spread 1."""
        side = self.decoder.patch_size
        tiles = x.float().unfold(2, side, side).unfold(3, side, side)
        patches = tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
        return (patches - mean) / (variance + EPSILON).sqrt()


class PatchDecoder(nn.Module):
    """Paints the patches that the network did not see; it is of no use after the training.

    Args:
        width: of its tokens. depth: blocks.
    """

    def __init__(self, network: ViT, width: int, depth: int) -> None:
        super().__init__()
        side = math.isqrt(network.num_tokens)
        self.patch_size = network.image_size // side
        self.enter = nn.Linear(network.hidden_size, width)
        self.unseen = nn.Parameter(torch.empty(1, 1, width))
        self.places = nn.Buffer(torch.empty(1, network.num_tokens, width), persistent=False)
        self.places.copy_(position_table(width, side))
        self.blocks = nn.ModuleList(EncoderBlock(width, HEADS) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.paint = nn.Linear(width, network.channels * self.patch_size**2)
        initialise_maps(self)
        nn.init.normal_(self.unseen, std=0.02)

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """tokens: (N, K, hidden_size) of the first K patches in `order`, (N, T) -> (N, T - K, C patch_size^2)."""
        count, shown = tokens.shape[:2]
        entered = self.enter(tokens)
        unseen = self.unseen.expand(count, order.shape[1] - shown, -1).to(entered.dtype)
        places = self.places.expand(count, -1, -1)
        tokens = torch.cat([entered, unseen], dim=1) + taken(places, order)
        for block in self.blocks:
            tokens = block(tokens)
        painted: Tensor = self.paint(self.norm(tokens[:, shown:]))
        return painted


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """(N, T, D), (N, K) -> the tokens at these places, (N, K, D)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
