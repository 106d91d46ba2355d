"""IDM: places between cells, the mix by scale, any size, and the loss over scales."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.codecs import Affine
from sfumato.nets.implicit import AnyScale, Implicit, Mix, small
from sfumato.noise import Noise
from sfumato.recipes.idm import Recipe
from sfumato.zoo import Model

SMALL = {"channels": 3, "widths": (8, 12), "calls": 3, "dropout": 0.0}


def noisy(module: torch.nn.Module, seed: int = 0) -> None:
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=made))


def identity(width: int) -> Implicit:
    """(h, rows, columns) as they are."""
    layer = Implicit(width, width + 2, width + 2)
    with torch.no_grad():
        for conv in layer.maps:
            conv.weight.copy_(torch.eye(width + 2)[..., None, None])
            conv.bias.zero_()
    return layer


def test_each_pixel_reads_its_nearest_cell_and_its_place_in_it() -> None:
    """2 cells read at 5 pixels: middles at 0.2, 0.6, 1.0, 1.4, 1.8 cells; 3 at 2: 0.75 and 2.25."""
    h = torch.tensor([[[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]]])
    out = identity(1)(h, (5, 2))
    assert out.shape == (1, 3, 5, 2)
    assert out[0, 0].tolist() == [[0, 2], [0, 2], [10, 12], [10, 12], [10, 12]]
    assert torch.allclose(out[0, 1, :, 0], torch.tensor([-0.6, 0.2, -1.0, -0.2, 0.6]), atol=1e-6)
    assert torch.allclose(out[0, 2, 0], torch.tensor([0.5, -0.5]), atol=1e-6)
    same = identity(1)(h, (2, 3))
    assert torch.equal(same[:, :1], h) and not same[:, 1:].any()


@pytest.mark.parametrize("size", [(7, 13), (3, 5), (4, 6)])
def test_places_turn_with_the_picture(size: tuple[int, int]) -> None:
    h = Noise(0).normal(torch.empty(1, 2, 3, 5))
    there, back = identity(2)(h, size), identity(2)(h.flip(2, 3), size).flip(2, 3)
    assert torch.allclose(there[:, :2], back[:, :2]) and torch.allclose(there[:, 2:], -back[:, 2:], atol=1e-6)


def test_a_flat_map_stays_flat_where_places_do_not_count() -> None:
    layer = Implicit(2, 3)
    with torch.no_grad():
        layer.maps[0].weight[:, 2:] = 0.0
    out = layer(torch.full((1, 2, 3, 4), 0.7), (10, 7))
    assert torch.allclose(out, out[:, :, :1, :1].expand_as(out), atol=1e-6)
    # and the map is linear: no bend between the two layers
    noisy(layer)
    a, b = Noise(0).normal(torch.empty(2, 1, 2, 3, 4))
    zero = layer(torch.zeros_like(a), (6, 8))
    assert torch.allclose(layer(a + b, (6, 8)) - zero, layer(a, (6, 8)) + layer(b, (6, 8)) - 2 * zero, atol=1e-5)


def test_the_mix_keeps_the_variance_and_follows_the_scale() -> None:
    mix = Mix(64, 4)
    noisy(mix)
    scale = torch.tensor([1.0, 3.3, 8.0])
    own, other = mix.weights(scale)
    assert own.shape == (3, 64, 1, 1) and torch.allclose(own**2 + other**2, torch.ones(3, 64, 1, 1), atol=1e-5)
    h, f = Noise(0).normal(torch.empty(2, 3, 64, 40, 40))
    assert torch.allclose((own * h + other * f).var((2, 3)), torch.ones(3, 64), atol=6 * math.sqrt(2 / 1600))
    # linear in the scale before the norm
    want = (mix.own.weight[:, 0] * 3.3 + mix.own.bias) / (mix.other.weight[:, 0] * 3.3 + mix.other.bias)
    assert torch.allclose((own / other)[1, :, 0, 0], want, rtol=1e-4)
    fresh = Mix(4, 4)
    assert torch.equal(fresh.own.bias, torch.ones(4)) and torch.equal(fresh.other.bias, torch.ones(4))


def test_without_its_weight_the_small_picture_is_not_mixed_in() -> None:
    mix, h = Mix(4, 3), Noise(0).normal(torch.empty(1, 4, 5, 5))
    a, b = Noise(1).normal(torch.empty(2, 1, 3, 5, 5))
    scale = torch.tensor([2.0])
    assert not torch.allclose(mix(h, a, scale), mix(h, b, scale), atol=1e-3)
    with torch.no_grad():
        mix.other.weight.zero_()
        mix.other.bias.zero_()
        mix.own.weight.fill_(0.5)
    assert torch.equal(mix(h, a, scale), mix(h, b, scale))
    assert torch.allclose(mix(h, a, scale), F.silu(h), atol=1e-6)
    with torch.no_grad():
        mix.other.bias.fill_(1.0)
        mix.own.weight.zero_()
        mix.own.bias.zero_()
    assert torch.allclose(mix(h, a, scale), F.silu(mix.conv(a)), atol=1e-6)


@pytest.mark.parametrize("size", [(9, 13), (8, 8), (5, 4)])
def test_any_size_from_any_small_picture(size: tuple[int, int]) -> None:
    net = AnyScale(3, (8, 12, 8), 1)
    noisy(net)
    u, y, c = torch.rand(2, 3, *size), torch.rand(2, 3, 4, 3), torch.zeros(2)
    out = net(u, c, {"image": y})
    assert out.shape == u.shape
    # every part is used: the place, the scale, the picture
    assert not torch.allclose(out, net(u, c, {"image": y, "scale": torch.full((2,), 7.0)}), atol=1e-4)
    assert not torch.allclose(out, net(u, c, {"image": y.flip(2)}), atol=1e-4)
    assert torch.allclose(out, net(u, c, {"image": y, "scale": torch.full((2,), size[0] / 4)}), atol=1e-5)
    out.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
    assert not AnyScale(3, (8, 12), 1)(u, c, {"image": y}).any()


def test_what_the_network_is_told() -> None:
    net = AnyScale(3, (8, 12), 1, scale=2.0)
    y = torch.rand(2, 3, 9, 8)
    low, scale = net.told({"image": y}, (9, 8))
    assert low.shape == (2, 3, 5, 4) and scale.tolist() == [2.0, 2.0]
    assert torch.equal(low, F.interpolate(y, (5, 4), mode="bicubic", antialias=True))
    low, scale = net.told({"image": y, "scale": torch.tensor([3.0, 3.0])}, (9, 8))
    assert low.shape == (2, 3, 3, 3) and scale.tolist() == [3.0, 3.0]
    low, scale = net.told({"image": y}, (27, 20))
    assert torch.equal(low, y) and scale.tolist() == [3.0, 3.0]
    assert torch.equal(small(y, 1.0), y) and small(y, 100.0).shape == (2, 3, 1, 1)
    with pytest.raises(ValueError, match="one for the whole batch"):
        net.told({"image": y, "scale": torch.tensor([2.0, 3.0])}, (9, 8))
    with pytest.raises(ValueError, match="by 1 or more"):
        small(y, 0.9)
    for cond in (None, {}):
        with pytest.raises(ValueError, match="enlarges a picture"):
            net.told(cond, (9, 8))


def test_the_loss_draws_a_scale_for_each_batch() -> None:
    recipe = Recipe(**SMALL)
    D, told = recipe.model(), []

    class Says(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: dict) -> Tensor:
            told.append(cond)
            return torch.zeros_like(u)

    D.net = Says()
    x0 = Noise(0).normal(torch.empty(16, 3, 12, 12))
    objective = recipe.objective(D)
    losses = [objective(x0, {"image": torch.zeros_like(x0)}, Noise(seed)) for seed in range(60)]
    scales = [float(cond["scale"][0]) for cond in told]
    assert 1.0 <= min(scales) < 1.3 and 3.7 < max(scales) <= 4.0
    assert sum(scales) / 60 == pytest.approx(2.5, abs=4 * 3 / math.sqrt(12 * 60))
    for cond, s in zip(told, scales, strict=True):
        assert cond["scale"].shape == (16,) and torch.equal(cond["image"], small(x0, s))
    count = 60 * x0.numel()
    assert losses[0].shape == (16,)
    found = float(torch.stack(losses).mean())
    assert found == pytest.approx(math.sqrt(2 / math.pi), abs=4 * math.sqrt((1 - 2 / math.pi) / count))
    for ends in ((0.5, 2.0), (3.0, 2.0)):
        with pytest.raises(ValueError, match="1 or more, the lower end first"):
            Recipe(**SMALL, low=ends[0], high=ends[1]).objective(D)
    t = objective.times(recipe.process(), 1000, Noise(0))
    assert 0.5 / 2000 <= float(t.min()) < 0.01


def test_a_model_enlarges() -> None:
    recipe = Recipe(**SMALL, scale=2.5)
    D = recipe.model().eval()
    noisy(D)
    fields = {**SMALL, "widths": [8, 12], "scale": 2.5}
    model = Model(Affine.unit(), D, {"recipe": "idm", "fields": fields, "event": [3, None, None]})
    assert D.net.scale == 2.5
    got = model.enhance(torch.rand(1, 3, 11, 10), samples=2)
    assert got.samples.shape == (2, 1, 3, 11, 10) and got.nfe == 3
    assert not torch.allclose(got.samples[0], got.samples[1], atol=1e-3)
