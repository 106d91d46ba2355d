"""Adapters: the base model to the bit at the start, a merged layer is the same layer, nothing else is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.nets import UNet
from sfumato.training import lora

LAYERS = {
    "linear": (nn.Linear(5, 7), (3, 5)),
    "conv1": (nn.Conv1d(4, 6, 3, padding=1), (3, 4, 9)),
    "conv2": (nn.Conv2d(4, 6, 3, stride=2, groups=2), (3, 4, 9, 8)),
    "transposed1": (nn.ConvTranspose1d(4, 6, 2, stride=2, bias=False), (3, 4, 5)),
    "transposed2": (nn.ConvTranspose2d(4, 6, 2, stride=2), (3, 4, 5, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer(kind):
    layer, shape = LAYERS[kind]
    layer = layer.double().requires_grad_(True)
    x = torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape).cos()
    before, kernel = layer(x), layer.weight.detach().clone()
    adapter = lora.Adapter(layer, 2, alpha=6.0)
    assert torch.equal(adapter(x), before) and torch.equal(adapter.weight, kernel) and adapter.bias is layer.bias
    assert [n for n, p in adapter.named_parameters() if p.requires_grad] == ["down", "up"]
    with torch.no_grad():
        adapter.up.copy_(torch.linspace(-1, 1, adapter.up.numel()).reshape(adapter.up.shape))
    # W + (alpha / r) B A, entry by entry.
    change = 3.0 * torch.einsum("or,ri->oi", adapter.up, adapter.down).reshape(kernel.shape)
    assert torch.allclose(adapter.weight, kernel + change, rtol=0.0, atol=1e-14)
    assert torch.linalg.matrix_rank((adapter.weight - kernel).flatten(1)) == 2
    out = adapter(x)
    assert float((out - before).abs().max()) > 0.1
    out.sum().backward()
    assert adapter.down.grad is not None and adapter.up.grad is not None and layer.weight.grad is None
    merged = adapter.merged()
    assert merged is layer and torch.equal(merged(x), out)


def net():
    torch.manual_seed(0)
    made = UNet(1, (8, 16), 1, patch=2, attention=(1,), classes=3)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made.eval()


X, T, C = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8), torch.tensor([0.1, 2.0]), torch.tensor([0, 2])


def test_a_network():
    made = net()
    with torch.no_grad():
        before = made(X, T, C)
        layers = sum(type(m) in lora.LAYERS for m in made.modules())
        assert lora.adapt(made, 3) == layers > 10
        assert torch.equal(made(X, T, C), before)
        names = {n for n, p in made.named_parameters() if p.requires_grad}
        assert names == {n for n in made.state_dict() if lora.is_adapter(n)} and len(names) == 2 * layers
        for n, p in made.named_parameters():
            if n.endswith(".up"):
                p.normal_(generator=torch.Generator().manual_seed(1))
        after = made(X, T, C)
        lora.merge(made)
        assert float((made(X, T, C) - after).abs().max()) < 1e-5 < float((after - before).abs().max())
    assert made.state_dict().keys() == net().state_dict().keys()


def test_ranks_that_a_layer_has_not_and_modules_without_layers():
    thin = nn.Sequential(nn.Linear(8, 1), nn.Linear(8, 8))
    lora.adapt(thin, 4, alpha=2.0)
    assert thin[0].rank == 1 and thin[1].rank == 4 and thin[0].scale == thin[1].scale == 0.5
    with pytest.raises(ValueError, match="at least 1, got 0"):
        lora.adapt(net(), 0)
    with pytest.raises(ValueError, match="Embedding has no linear layer and no convolution"):
        lora.adapt(nn.Embedding(2, 2), 1)


def test_attention_of_torch_is_left_alone():
    """Its projections are read by name, not called."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True).eval()
    x = torch.linspace(-1, 1, 48).reshape(1, 6, 8)
    before = layer(x)
    assert lora.adapt(layer, 2) == 2  # linear1 and linear2
    assert float((layer(x) - before).abs().max()) < 1e-6
