"""Block features of tiny real transformers against their blocks called one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dbench.quality.representation import layer_features
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError, DataError
from dtrain import models
from dtrain.models.transformer.networks import SiT

NUM, DEPTH, HIDDEN, CLASSES = 7, 3, 8, 4
PROCESS = DiscreteProcess("linear", 100)


class Straight:
    """x_t = (1 - t) x_0 + t eps."""

    def alpha(self, t: float) -> float:
        return 1 - t

    def sigma(self, t: float) -> float:
        return t


def transformer(**settings: Any) -> SiT:
    """With every weight perturbed: fresh blocks are the identity, and labels and time would not matter."""
    torch.manual_seed(0)
    size = {"hidden_size": HIDDEN, "depth": DEPTH, "num_heads": 2}
    network = SiT(4, size, patch_size=2, channels=3, **{"num_classes": CLASSES, **settings})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def images(num: int = NUM) -> Tensor:
    return torch.randn(num, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def features(
    network: nn.Module,
    layers: list[int],
    labels: Tensor | None = None,
    t: float = 30,
    batch_size: int = 4,
    seed: int = 2,
) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return layer_features(network, layers, images(), labels, PROCESS, t, generator, batch_size)


def reference(network: SiT, x0: Tensor, label: int | None, alpha: float, sigma: float, t: float) -> dict[int, Tensor]:
    """Each block by hand, image by image, and the tokens added up one by one."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    found: dict[int, list[Tensor]] = {layer: [] for layer in range(1, DEPTH + 1)}
    with torch.no_grad():
        for clean, eps in zip(x0, noise, strict=True):
            condition = network.t_embedder(torch.tensor([t]))
            if label is not None:
                condition = condition + network.y_embedder.embedding_table.weight[label]
            tokens = network.x_embedder((alpha * clean + sigma * eps)[None]) + network.pos_embed
            for layer, block in enumerate(network.blocks, 1):
                tokens = block(tokens, F.silu(condition))
                found[layer].append(sum(tokens[0].unbind()) / 4)
    return {layer: torch.stack(rows) for layer, rows in found.items()}


# ---- what is computed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 30.0, 99.0])
def test_is_the_mean_token_of_each_block_with_the_null_label(t: float) -> None:
    network = transformer()
    got = features(network, [1, 2, 3], t=t)
    # The chain's law: abar is the product of 1 - beta, alpha its root.
    abar = math.prod(1 - (1e-3 + (0.2 - 1e-3) * i / 99) for i in range(int(t) + 1))
    expected = reference(network, images(), CLASSES, math.sqrt(abar), math.sqrt(1 - abar), t)
    assert list(got) == [1, 2, 3]
    for layer in got:
        assert got[layer].shape == (NUM, HIDDEN)
        assert got[layer].dtype == torch.float32
        torch.testing.assert_close(got[layer], expected[layer], rtol=1e-4, atol=1e-5)
        assert expected[layer].std() > 0.05


def test_any_process_and_the_networks_own_time() -> None:
    network = transformer()
    got = layer_features(network, [2], images(), None, Straight(), 0.25, torch.Generator().manual_seed(2), 4)
    expected = reference(network, images(), CLASSES, 0.75, 0.25, 0.25)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-4, atol=1e-5)


def test_given_labels_go_with_their_images() -> None:
    network = transformer()
    labels = torch.tensor([0, 3, 1, 1, 2, 0, 3])
    got = features(network, [3], labels, batch_size=3)[3]
    for i, label in enumerate(labels.tolist()):
        alone = features(network, [3], torch.full((NUM,), label))[3][i]
        torch.testing.assert_close(got[i], alone, rtol=1e-4, atol=1e-5)
    null = features(network, [3], torch.full((NUM,), CLASSES))[3]
    torch.testing.assert_close(features(network, [3])[3], null)
    assert (got - null).abs().max() > 0.01


def test_without_classes_there_is_no_label() -> None:
    network = transformer(num_classes=0)
    alpha, sigma = float(PROCESS.alpha(30)), float(PROCESS.sigma(30))
    expected = reference(network, images(), None, alpha, sigma, 30.0)
    torch.testing.assert_close(features(network, [2])[2], expected[2], rtol=1e-4, atol=1e-5)


def test_without_a_null_label_the_labels_must_be_given() -> None:
    network = transformer(null_class=False)
    assert features(network, [1], torch.zeros(NUM, dtype=torch.int64))[1].shape == (NUM, HIDDEN)
    with pytest.raises(ConfigError, match="needs labels: got None"):
        features(network, [1])
    with pytest.raises(ConfigError, match="got labels, expected None"):
        features(transformer(num_classes=0), [1], torch.zeros(NUM, dtype=torch.int64))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_do_not_matter(batch_size: int) -> None:
    network = transformer()
    torch.testing.assert_close(features(network, [2], batch_size=batch_size)[2], features(network, [2])[2])


def test_the_generator_is_all_the_randomness() -> None:
    network, before = transformer(), torch.get_rng_state()
    first, again, other = (features(network, [2], seed=seed)[2] for seed in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


def test_layers_come_as_asked() -> None:
    network = transformer()
    everything = features(network, [1, 2, 3])
    got = features(network, [3, 1, 3])
    assert list(got) == [3, 1]
    assert all(torch.equal(got[layer], everything[layer]) for layer in got)
    assert (everything[1] - everything[3]).abs().max() > 0.01


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.1)])
def test_networks_of_another_precision_give_float32(dtype: torch.dtype, tolerance: float) -> None:
    got, expected = features(transformer().to(dtype), [2])[2], features(transformer(), [2])[2]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


# ---- what is left behind ---------------------------------------------------------------------------------


def with_dropout() -> SiT:
    """Of half the patches' channels: training mode would show."""
    network = transformer()
    network.x_embedder.proj = nn.Sequential(network.x_embedder.proj, nn.Dropout(0.5))
    return network


def num_hooks(network: SiT) -> int:
    return sum(len(block._forward_hooks) for block in network.blocks)


def test_runs_in_evaluation_mode_and_restores_every_module() -> None:
    network = with_dropout()
    network.train()
    network.blocks[1].eval()
    before = [module.training for module in network.modules()]
    assert torch.equal(features(network, [2])[2], features(with_dropout().eval(), [2])[2])
    assert [module.training for module in network.modules()] == before
    assert any(before)
    assert not all(before)


def test_no_gradients_are_kept() -> None:
    got = features(transformer(), [1])[1]
    assert not got.requires_grad
    assert got.grad_fn is None


def test_hooks_are_removed_also_on_errors() -> None:
    network = transformer().train()
    features(network, [1, 2])
    assert num_hooks(network) == 0
    with pytest.raises(IndexError):
        features(network, [1, 2], torch.tensor([0, 0, 0, 0, CLASSES + 1, 0, 0]))
    assert num_hooks(network) == 0
    assert all(module.training for module in network.modules())


# ---- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[0], [1, 4], [-1]])
def test_layers_outside_the_network_are_refused(layers: list[int]) -> None:
    with pytest.raises(ConfigError, match=rf"layer got {layers[-1]}, expected 1\.\.3: blocks are counted from 1"):
        features(transformer(), layers)


def test_no_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no layer is named: expected some of 1\.\.3"):
        features(transformer(), [])


def test_other_networks_are_refused() -> None:
    unet = models.build({"name": "TwoResUNet", "dim": 4, "dim_mults": [1, 2]})
    with pytest.raises(ConfigError, match="blocks: got TwoResUNet"):
        features(unet, [1])


def test_batch_size_must_hold_an_image() -> None:
    with pytest.raises(ConfigError, match="batch_size got 0"):
        features(transformer(), [1], batch_size=0)


@pytest.mark.parametrize("shape", [(6,), (7, 1)])
def test_a_label_for_each_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"labels got shape .* expected \(7,\)"):
        features(transformer(), [1], torch.zeros(shape, dtype=torch.int64))


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        layer_features(transformer(), [1], images(0), None, PROCESS, 3, torch.Generator(), 4)
