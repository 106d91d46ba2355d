"""ResDiff: the CNN's loss is a re-weighting of pixel errors, the features are what they say, the residual's law is
that of x_0, and the CNN stands still once it is trained."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, normal

import sfumato as sf
from sfumato.denoisers import Predicted, Residual
from sfumato.nets import UNet
from sfumato.nets.haar import pyramid
from sfumato.nets.resdiff import Guided, ResDiffNet, SmallCNN, Splitter, frequency_loss
from sfumato.noise import Noise
from sfumato.processes import LinearBeta, Reverting, entry
from sfumato.recipes.resdiff import Recipe
from sfumato.samplers import DDIM, sample

SMALL = {"channels": 1, "widths": (8, 8, 8), "filters": (4, 4), "factor": 2}


def test_the_cnn_s_loss_is_a_reweighting_of_pixel_errors() -> None:
    """FFT: Parseval, so 1 + 0.2 times the square error. Haar: details and the last average sum to the square error."""
    x0, m = normal(2, 3, 16, 32), normal(2, 3, 16, 32)
    e = x0 - m
    close(frequency_loss(x0, m, details=0.0), 1.2 * e.square().mean((1, 2, 3)))
    average, bands = pyramid(e, 4)
    close(sum(b.square().sum((1, 2, 3)) for b in (average, *bands)), e.square().sum((1, 2, 3)))
    want = sum(each.square().mean((1, 2, 3)) for b in bands for each in b.chunk(3, 1))
    close(frequency_loss(x0, m, spectral=0.0, details=0.5) - e.square().mean((1, 2, 3)), 0.5 * want)


def test_the_cnn_s_loss_of_two_errors_by_hand() -> None:
    """A constant has no details; a checkerboard is the finest diagonal band alone, 2 c in each block of 2 x 2."""
    x0, c = torch.zeros(1, 1, 16, 16).double(), 0.3
    close(frequency_loss(x0, x0 + c), 1.2 * c**2)
    board = c * (1.0 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2)).double()
    close(frequency_loss(x0, board.expand(1, 1, 16, 16)), 1.2 * c**2 + 0.1 * 4 * c**2)
    odd = torch.zeros(1, 1, 6, 7).double()  # two levels fit, on 4 x 4
    close(frequency_loss(odd, odd + c), 1.2 * c**2)


def test_the_high_feature_is_a_high_pass_and_the_low_one_a_part_of_m() -> None:
    net = Splitter(1).double()
    with torch.no_grad():
        net.width.weight.zero_()
        net.width.bias.zero_()  # w = 3/4
        net.gate.weight.fill_(2.0)
        net.gate.bias.fill_(-1.0)
    flat = torch.full((1, 1, 8, 12), 0.7).double()
    low, high = net(flat)
    close(high, torch.zeros_like(flat))  # the mean is stopped
    close(low, flat / (1 + math.exp(1.0)))
    for f, n in ((0.5, 12), (0.25, 12)):
        wave = torch.cos(2 * math.pi * f * torch.arange(n).double()).expand(1, 1, 8, n)
        want = (1 - math.exp(-(f**2) / (2 * 0.75**2))) * wave.abs()
        close(net(wave)[1], want)
        close(net(wave.mT)[1], want.mT)
        close(net(wave)[0], wave * torch.sigmoid(2.0 * want - 1.0))
    both = torch.cat([flat, normal(1, 1, 8, 12)])
    close(net(both)[1][:1], torch.zeros_like(flat))  # each picture by itself
    with torch.no_grad():
        net.width.weight.fill_(100.0)
    wave = torch.cos(math.pi * torch.arange(12).double()).expand(1, 1, 8, 12)
    close(net(wave)[1], (1 - math.exp(-0.125)) * wave.abs(), 1e-6)  # w is 1 at most


def test_guidance_is_attention_across_channels() -> None:
    torch.manual_seed(0)
    net = Guided(1, 4).double()
    x, details = normal(2, 4, 6, 6), normal(2, 1, 6, 6)
    assert torch.equal(net(x, details), x)  # nothing before training
    with torch.no_grad():
        net.out.weight.normal_()
    got = net(x, details)
    assert float((got - x).detach().abs().max()) > 0.1
    close(net(x, 5.0 * details), got)  # the query's direction counts
    order = torch.randperm(36)
    moved = [v.flatten(2)[..., order].reshape(v.shape) for v in (x, details, got)]
    close(net(moved[0], moved[1]), moved[2])
    assert not torch.allclose(net(x, details.flip(3)), got, atol=1e-3)
    lone = Guided(1, 1).double()  # one channel: its weight is 1, whatever the query
    with torch.no_grad():
        lone.out.weight.fill_(1.0)
        lone.norm.bias.fill_(0.5)  # the norm of one channel is its bias
        lone.key_value.weight.copy_(torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1))
    close(lone(x[:, :1], details), x[:, :1] + 1.5)


@pytest.mark.parametrize(("patch", "levels"), [(1, [1]), (2, [1, 2]), (4, [2, 3])])
def test_what_skips_is_guided_by_details_of_its_size(patch: int, levels: list[int]) -> None:
    torch.manual_seed(0)
    net = ResDiffNet(UNet(1, (8, 8, 8), 1, patch=patch, image=4)).double()
    seen: list[Tensor] = []
    for guide in net.guides:
        guide.register_forward_hook(lambda mod, args, kwargs, out: seen.append(kwargs["details"]), with_kwargs=True)
    m, z = normal(1, 1, 16, 16), normal(1, 1, 16, 16)
    got = net(z, torch.zeros(1).double(), {"anchor": m})
    assert got.shape == z.shape and len(seen) == len(levels)
    bands = pyramid(m, max(levels))[1]
    for found, level in zip(seen, levels, strict=True):
        close(found, sum(bands[level - 1].chunk(3, 1)))
    with pytest.raises(ValueError, match="patch is one too, got 3"):
        ResDiffNet(UNet(1, (8, 8), 1, patch=3, image=4))


def test_the_u_net_sees_z_m_gated_z_and_both_features() -> None:
    torch.manual_seed(0)
    net, seen = ResDiffNet(UNet(2, (8,), 1, image=8)).double(), {}
    net.net.register_forward_hook(lambda mod, args, out: seen.update(z=args[0], image=args[2]["image"]))
    z, m = normal(2, 2, 5, 6), normal(2, 2, 5, 6)
    with torch.no_grad():
        net.level.weight.zero_()
        net.level.bias.copy_(torch.tensor([0.0, math.log(3.0)], dtype=torch.float64))
    net(z, torch.zeros(2).double(), {"anchor": m})
    low, high = net.splitter(m)
    close(seen["z"], z)
    gated = torch.cat([0.5 * z[:, :1], 0.75 * z[:, 1:]], 1)
    close(seen["image"], torch.cat([m, gated, low, high], 1))
    with torch.no_grad():
        net.level.weight.normal_()
    net(z, torch.tensor([0.1, 0.9]).double(), {"anchor": m})
    gate = seen["image"][:, 2:4] / z
    close(gate, gate[:, :, :1, :1].expand_as(gate))  # one number a channel and row, of its noise level
    assert float((gate[0] - gate[1]).detach().abs().max()) > 1e-3


def test_the_cnn_is_y_before_training_and_learns_first_alone() -> None:
    torch.manual_seed(0)
    recipe = Recipe(**SMALL, pretrain=2)
    D = recipe.model()
    loss, x0, y = recipe.objective(D), torch.randn(2, 1, 7, 6), torch.randn(2, 1, 7, 6)
    assert torch.equal(D.predictor(y), y)
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    for step, early in ((1, True), (2, True), (3, False)):
        loss.zero_grad(set_to_none=True)
        loss.advance(step)
        found = loss(x0, {"image": y}, Noise(0))
        found.mean().backward()
        if early:
            assert torch.allclose(found, frequency_loss(x0, D.predictor(y)))
        assert all((p.grad is not None) == early for p in D.predictor.parameters())
        assert all(p.grad is None for p in D.inner.parameters()) == early
    wide = SmallCNN(1, 2, (4, 4))
    with torch.no_grad():
        wide.layers[-1].bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))  # one number for each place of a block
    assert (wide(torch.zeros(1, 1, 3, 4))[0, 0, :3] == torch.tensor([[1.0, 2, 1, 2], [3, 4, 3, 4], [1, 2, 1, 2]])).all()


def test_the_loss_is_that_of_eps_at_any_level() -> None:
    recipe = Recipe(**SMALL, pretrain=0, scale=0.25)
    D = recipe.model()
    with torch.no_grad():
        for p in D.inner.parameters():
            p.zero_()
        x0 = torch.randn(256, 1, 8, 8)
        found = recipe.objective(D)(x0, {"image": 0.5 * x0}, Noise(0))
    want = math.sqrt(2 / math.pi)
    assert float(found.mean()) == pytest.approx(want, abs=4 * math.sqrt((1 - want**2) / x0.numel()))
    times = recipe.objective(D).then.times
    assert (times.low, times.high) == (0.5 / 1000, 1.0)


def test_with_the_linear_least_squares_anchor_the_law_is_still_that_of_x0_given_y() -> None:
    """m = E[x_0 | y]: the residual has mean 0, is uncorrelated with y, and its flow ends in the law of x_0 | y."""
    torch.manual_seed(0)
    a, H = torch.randn(3, 3).double(), torch.randn(2, 3).double()
    S, R, mu, n = a @ a.T, 0.1 * torch.eye(2).double(), torch.tensor([0.3, -1.0, 0.5]).double(), 30_000
    K = S @ H.T @ torch.linalg.inv(H @ S @ H.T + R)
    V, noise = S - K @ H @ S, Noise(0)

    class Least(torch.nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return mu + (y - mu @ H.T) @ K.T

    x0 = sf.GaussianWorld(mu, S).sample(n, noise)
    y = x0 @ H.T + math.sqrt(0.1) * noise.normal(torch.empty(n, 2).double())
    z = x0 - Least()(y)
    se = (V.diag() / n).sqrt()
    assert bool((z.mean(0).abs() <= 4 * se).all())
    cross = (z[:, :, None] * (y - y.mean(0))[:, None, :]).mean(0)
    assert bool((cross.abs() <= 4 * se[:, None] * y.std(0)).all())
    process = Reverting(LinearBeta(), scale=0.5, read=entry("anchor"))
    exact = sf.GaussianWorld(torch.zeros(3).double(), V / 0.25).denoiser(process.inner)
    D = Predicted(Residual(exact, process), Least(), learn=False).given({"image": y[:1].expand(n, 2)})
    x1 = D.process.prior(x0).sample(noise)
    x = sample(D, DDIM(), x1=x1, times=sf.grids.log_snr(process, 200), noise=noise)
    c = torch.cov(x.T)
    assert bool(((x.mean(0) - Least()(y[:1])[0]).abs() <= 4 * se).all())
    assert bool(((c - V).abs() <= 4 * (V.diag()[:, None] * V.diag() + V**2).div(n).sqrt() + 0.01 * V.abs().max()).all())


def test_estimates_are_held_and_the_scale_reaches_the_network() -> None:
    recipe = Recipe(**SMALL, scale=0.25)
    D, seen = recipe.model(), {}
    D.inner.inner.net.register_forward_hook(lambda mod, args, out: seen.update(z=args[0]))
    with torch.no_grad():
        D.inner.inner.net.net.leave.bias.fill_(-50.0)
    y = torch.randn(1, 1, 8, 8)
    held = recipe.guide(D)(y + 0.5, 0.9, {"image": y}).mean
    assert torch.allclose(seen["z"], torch.full_like(y, 2.0)) and torch.allclose(held, y + 0.25)
    assert not recipe.guide(D).learn and recipe.guide(D).predictor is D.predictor
