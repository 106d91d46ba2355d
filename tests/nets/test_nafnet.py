"""NAFNet and the autoencoder with skips: what they compute at known weights, and what reaches what."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sfumato.nets.nafnet import Block, NAFNet, gated
from sfumato.nets.skipping import Attention, Skipping


def shaken(net: torch.nn.Module, size: float = 0.2) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn_like(p))
    return net


def test_a_gate_is_the_product_of_the_halves() -> None:
    assert gated(torch.tensor([[2.0, 3.0, 5.0, 7.0]])).tolist() == [[10.0, 21.0]]


def test_a_block_by_its_formula() -> None:
    """Written out with functions: norm over channels, shift and scale, 1x1, depthwise 3x3, gate, channel attention."""
    block = shaken(Block(4, 8)).double()
    x, told = torch.randn(2, 4, 5, 6).double(), torch.randn(2, 8).double()
    a = (told[:, :4] * told[:, 4:]) @ block.tell.weight.T + block.tell.bias
    shift1, scale1, shift2, scale2 = (a[:, 4 * i : 4 * i + 4, None, None] for i in range(4))

    def norm(v: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
        z = (v - v.mean(1, keepdim=True)) / (v.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return z * layer.weight[:, None, None] + layer.bias[:, None, None]

    h = norm(x, block.norm1) * (1 + scale1) + shift1
    h = F.conv2d(h, block.spread[0].weight, block.spread[0].bias)
    h = F.conv2d(h, block.spread[1].weight, block.spread[1].bias, padding=1, groups=8)
    h = h[:, :4] * h[:, 4:]
    h = h * F.conv2d(h.mean((2, 3), keepdim=True), block.attend.weight, block.attend.bias)
    y = x + block.beta * F.conv2d(h, block.mix.weight, block.mix.bias)
    h = F.conv2d(norm(y, block.norm2) * (1 + scale2) + shift2, block.enter.weight, block.enter.bias)
    want = y + block.gamma * F.conv2d(h[:, :4] * h[:, 4:], block.leave.weight, block.leave.bias)
    assert torch.allclose(block(x, told), want, atol=1e-10)
    assert torch.equal(Block(4, 8).double()(x, told), x)  # beta and gamma are 0 at first


def test_the_net_at_first_and_every_gradient() -> None:
    """With silent blocks it is two convolutions, the levels and the first features; all it is told matters."""
    net = NAFNet(2, 4, (1, 2), 1, image=2).double()
    u, image, c = torch.randn(2, 2, 7, 5).double(), torch.randn(2, 2, 7, 5).double(), torch.tensor([1.0, 3.0]).double()
    padded = F.pad(torch.cat([u, image], 1), (0, 3, 0, 1))
    first = net.enter(padded)
    one = net.shrink[0](first)
    two = net.grow[1](net.shrink[1](one)) + one
    want = net.leave(net.grow[0](two) + first + first)[:, :, :7, :5]
    assert torch.allclose(net(u, c, {"image": image}), want, atol=1e-10)
    assert torch.equal(net(u, c, image), net(u, c, {"image": image}))
    assert [len(level) for level in net.down] == [1, 2] and len(net.middle) == 1 and len(net.up) == 2
    shaken(net)
    out = net(u, c, {"image": image})
    for other in (net(u, c + 1.0, image), net(u, c, -image), net(-u, c, image)):
        assert not torch.allclose(out, other, atol=1e-4)
    assert torch.allclose(net(u[1:], c[1:], image[1:]), out[1:], atol=1e-10)
    out.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())
    plain = NAFNet(2, 4, (1,), 0)
    assert plain(u.float(), c.float()).shape == u.shape and plain.enter.in_channels == 2


def test_linear_attention_is_softmax_over_positions_then_over_features() -> None:
    layer = shaken(Attention(4, head=2)).double()
    x = torch.randn(1, 4, 2, 3).double()
    q, k, v = layer.qkv(layer.norm(x)).reshape(3, 2, 2, 6)
    heads = []
    for h in range(2):
        weights = torch.softmax(k[h], 1)  # over positions
        context = weights @ v[h].T
        heads.append(context.T @ torch.softmax(q[h], 0))
    want = x + layer.out(torch.cat(heads).reshape(1, 4, 2, 3))
    assert torch.allclose(layer(x), want, atol=1e-12)


def test_the_autoencoder_s_shapes_and_what_goes_round() -> None:
    domain = shaken(Skipping(3, 4, (2, 2, 4), latent=5), 0.05).double()
    x, y = (torch.randn(2, 3, 13, 9).double() for _ in range(2))
    (code, skips), (other, others) = domain.encode(x), domain.encode(y)
    assert code.shape == (2, 5, 4, 3) and domain.stride == 4
    assert [tuple(f.shape[1:]) for f in skips.features] == [
        (4, 16, 12), (4, 16, 12), (4, 16, 12), (8, 8, 6), (8, 8, 6), (8, 4, 3), (8, 4, 3)
    ]  # fmt: skip
    assert skips.size == (13, 9)
    out = domain.decode(code, skips)
    assert out.shape == x.shape
    for changed in (domain.decode(other, skips), domain.decode(code, others)):
        assert not torch.allclose(out, changed, atol=1e-6)
    for i in range(len(skips.features)):  # every feature is used
        less = skips._replace(features=[0 * f if j == i else f for j, f in enumerate(skips.features)])
        assert not torch.allclose(out, domain.decode(code, less), atol=1e-9)
    assert torch.allclose(domain.decode(*domain.encode(x[1:])), out[1:], atol=1e-10)
    out.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in domain.parameters())


@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(1, 3, *size)
    assert NAFNet(3, 4, (1, 1))(x, torch.zeros(1)).shape == x.shape
    domain = Skipping(3, 4, (1, 2), latent=2)
    assert domain.decode(*domain.encode(x)).shape == x.shape
