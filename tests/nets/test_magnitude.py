"""Magnitudes are kept, layer by layer and by the whole network at its first weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato import Noise
from sfumato.nets import MPUNet, normalize_weights
from sfumato.nets.magnitude import MPFourier, MPLayer, mp_cat, mp_silu, mp_sum, unit
from sfumato.nets.mpunet import MPAttention, MPBlock


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise(seed).normal(torch.empty(*shape))


def rms(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_silu_of_unit_normal_numbers_is_of_unit_magnitude() -> None:
    assert rms(mp_silu(normal(400_000))) == pytest.approx(1.0, rel=0.01)  # the paper rounds 0.5966 to 0.596


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_sum_and_cat_keep_magnitude_and_take_their_shares(share: float) -> None:
    a, b = normal(2000, 30), normal(2000, 10, seed=1)
    whole = mp_cat(a, b, share)
    assert rms(whole) == pytest.approx(1.0, rel=0.01)
    # Each part's sum of squares stands to the other's as the squares of the shares, whatever the widths.
    parts = whole[:, :30].square().sum() / whole[:, 30:].square().sum()
    assert float(parts) == pytest.approx(((1 - share) / share) ** 2, rel=0.02)
    c = normal(2000, 30, seed=2)
    mixed = mp_sum(a, c, share)
    assert rms(mixed) == pytest.approx(1.0, rel=0.01)
    size = math.hypot(1 - share, share)
    assert float((mixed * a).mean()) == pytest.approx((1 - share) / size, abs=0.02)
    assert float((mixed * c).mean()) == pytest.approx(share / size, abs=0.02)


def test_unit_divides_by_the_root_mean_square_of_each_row() -> None:
    x = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    out = unit(x, (1,))
    assert out[0].tolist() == pytest.approx([3 / math.sqrt(12.5), -4 / math.sqrt(12.5)], rel=1e-4)
    assert out[1].tolist() == [0.0, 0.0]


def test_fourier_features_have_unit_magnitude_and_a_unit_gaussian_band() -> None:
    torch.manual_seed(0)
    layer = MPFourier(20_000)
    near, here = layer(torch.tensor([0.3])), layer(torch.tensor([0.5]))
    assert rms(here) == pytest.approx(1.0, rel=0.02)
    # E cos(2 pi f d) for f ~ N(0, 1) is exp(-2 pi^2 d^2).
    assert float((near * here).mean()) == pytest.approx(math.exp(-2 * math.pi**2 * 0.2**2), abs=0.02)
    assert not list(layer.parameters())


@pytest.mark.parametrize(("kernel", "dims", "shape"), [(1, 0, ()), (3, 1, (64,)), (3, 2, (24, 24))])
def test_a_layer_keeps_magnitude_whatever_its_stored_weights(kernel: int, dims: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = MPLayer(40, 50, kernel, dims)
    x = normal(600 if not shape else 4, 40, *shape)
    out = layer(x)
    assert out.shape == (len(x), 50, *shape)
    inside = out[(..., *[slice(1, -1)] * len(shape))] if shape else out
    assert rms(inside) == pytest.approx(1.0, rel=0.03)
    with torch.no_grad():
        layer.weight.mul_(7.0)
    torch.testing.assert_close(layer(x), out, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer(x, 0.25), 0.25 * layer(x))


def test_forced_normalisation_leaves_the_layer_as_it_is_and_its_weights_on_the_sphere() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(MPLayer(40, 50), torch.nn.Linear(50, 50))
    x, plain = normal(10, 40), layer[1].weight.detach().clone()
    with torch.no_grad():
        layer[0].weight.mul_(torch.arange(1.0, 51.0)[:, None])
    before = layer(x)
    normalize_weights(layer)
    torch.testing.assert_close(layer(x), before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer[0].weight.square().mean(1), torch.ones(50), rtol=1e-3, atol=0)
    assert torch.equal(layer[1].weight, plain)  # no magnitude-preserving layer


def test_the_gradient_is_orthogonal_to_the_weights() -> None:
    """w / |w| does not change along w: what the forced normalisation takes away the gradient never gave."""
    torch.manual_seed(0)
    layer = MPLayer(12, 5)
    layer(normal(30, 12)).pow(3).sum().backward()
    along = (layer.weight.grad * layer.weight).sum(1) / layer.weight.grad.norm(dim=1) / layer.weight.norm(dim=1)
    assert float(along.detach().abs().max()) < 1e-3


def test_attention_of_one_position_is_its_normalised_value() -> None:
    torch.manual_seed(0)
    block = MPAttention(128, 1)
    assert block.heads == 2
    x = normal(3, 128, 1)
    v = unit(block.qkv(x).reshape(3, 2, 64, 3), (2,))[..., 2].reshape(3, 128, 1)
    torch.testing.assert_close(block(x), block.out(v), rtol=1e-4, atol=1e-4)


def test_attention_scores_are_cosines_times_the_root_of_the_head() -> None:
    torch.manual_seed(0)
    block = MPAttention(8, 1)
    x = normal(2, 8, 5)
    q, k, v = unit(block.qkv(x).reshape(2, 1, 8, 3, 5), (2,)).unbind(3)
    scores = torch.einsum("bhci,bhcj->bhij", q, k) / math.sqrt(8)
    mixed = torch.einsum("bhij,bhcj->bhci", scores.softmax(-1), v).reshape(2, 8, 5)
    torch.testing.assert_close(block(x), block.out(mixed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("resample", ["keep", "down", "up"])
def test_a_block_is_its_formula(encoder: bool, resample: str) -> None:
    torch.manual_seed(0)
    block = MPBlock(6, 10, 7, 2, resample, False, 0.0, encoder=encoder)
    with torch.no_grad():
        block.gain.fill_(0.5)
    x, emb = normal(2, 6, 8, 8), normal(2, 7, seed=1)
    y = {
        "keep": x,
        "down": torch.nn.functional.avg_pool2d(x, 2),
        "up": x.repeat_interleave(2, 2).repeat_interleave(2, 3),
    }
    x = y[resample]
    c = (block.modulate(emb) * 0.5 + 1)[:, :, None, None]
    side = unit(block.skip(x), (1,)) if encoder else x
    h = block.second(mp_silu(block.first(mp_silu(side)) * c))
    expected = mp_sum(side if encoder else block.skip(x), h, 0.3)
    torch.testing.assert_close(block(y["keep"], emb), expected, rtol=1e-4, atol=1e-4)


def test_activations_are_clipped() -> None:
    torch.manual_seed(0)
    block = MPBlock(4, 4, 3, 1, "keep", False, 0.0, encoder=False)
    out = block(1e4 * normal(1, 4, 6), normal(1, 3))
    assert float(out.abs().max()) == 256.0


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"channels": 2, "widths": (16, 32), "attention": (1,), "classes": 3}, (2, 2, 8, 8)),
        ({"channels": 1, "widths": (16, 24, 32), "dims": 1, "patch": 2}, (2, 1, 30)),
    ],
)
def test_the_network_begins_at_zero_keeps_magnitudes_and_trains_everywhere(options: dict, shape: tuple) -> None:
    torch.manual_seed(0)
    net = MPUNet(**options, blocks=1)
    x, c = normal(*shape), torch.tensor([0.1, -0.4])
    cond = torch.tensor([0, 2]) if "classes" in options else None
    assert torch.equal(net(x, c, cond), torch.zeros(shape))
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("gain"):
                p.fill_(0.3)
    seen = []
    for block in (*net.down, *net.up):
        block.register_forward_hook(lambda m, args, out: seen.append(rms(out)))
    net(x, c, cond).square().mean().backward()
    assert all(0.6 < size < 1.3 for size in seen), seen
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_labels_enter_and_no_label_is_the_last_one() -> None:
    torch.manual_seed(0)
    net = MPUNet(1, (8,), 1, classes=2)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("gain"):
                p.fill_(1.0)
    x, c = normal(1, 1, 4, 4).repeat(3, 1, 1, 1), torch.zeros(3)
    out = net(x, c, torch.tensor([0, 1, 2]))
    assert float((out[0] - out[1]).abs().max()) > 1e-3 < float((out[1] - out[2]).abs().max())
    torch.testing.assert_close(net(x, c)[0], out[2])
    torch.testing.assert_close(net(x, c, {"label": torch.tensor([0, 1, 2])}), out)
    # A one-hot row times sqrt(classes) has unit root mean square: what the label adds is of unit magnitude.
    wide = MPUNet(1, (64,), 1, classes=50)
    rows = wide.label(torch.eye(50) * 50**0.5)
    assert rms(rows) == pytest.approx(1.0, rel=0.05)
