import torch
from torch import nn

from dexport.deploy.transformer import Attend


def test_attention_in_parts_is_torchs() -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 6, generator=torch.Generator().manual_seed(0)) * 3
    expected = nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert torch.allclose(Attend()(q, k, v), expected.float(), atol=1e-5)
