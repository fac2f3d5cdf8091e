"""Diffusion transformers: DiT (Peebles & Xie 2023, arXiv:2212.09748) and SiT (Ma et al. 2024, arXiv:2401.08740).

The state-dict keys and shapes are those of the published weights of DiT, SiT and REPA, so these files load. No tensor
in `forward` has more than 5 dimensions, and all sizes but the batch are constants, as CoreML and TensorRT need it.
"""

from __future__ import annotations

from dtrain.models import Network
from dtrain.models.transformer.networks import DiT, SiT

MODELS: dict[str, type[Network]] = {net.__name__: net for net in (SiT, DiT)}
