"""DiffLL: the average band is drawn, details are made, the inverse transform is the picture; losses of a whole draw."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close, normal, shaken

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.metrics import ssim
from sfumato.nets.details import DetailNet
from sfumato.nets.haar import merge, pyramid, rebuilt
from sfumato.noise import Noise, Seeds
from sfumato.recipes.diffll import LowBand, Recipe
from sfumato.samplers import sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "details": 4, "calls": 2, "inside": 2}


def made(**more: object) -> tuple[Recipe, LowBand]:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, **more})
    return recipe, shaken(recipe.model())


def by_the_paper(e: float, v: float, bars: list[float]) -> tuple[float, float]:
    """Mean and variance of DDIM's draw of N(e, v) from N(0, 1): x0 = (x - sqrt(1 - a) f) / sqrt(a), f exact;
    x' = sqrt(a') x0 + sqrt(1 - a') f."""
    mean, var = 0.0, 1.0
    for bar, after in zip(bars, [*bars[1:], 1.0], strict=True):
        a, s = math.sqrt(bar), math.sqrt(1 - bar)
        gain = a * v / (bar * v + s * s)
        k = math.sqrt(after) * gain + math.sqrt(1 - after) * (1 - a * gain) / s
        shift = math.sqrt(after) * (1 - a * gain) * e - math.sqrt(1 - after) * a * (1 - a * gain) * e / s
        mean, var = k * mean + shift, k * k * var
    return mean, var


@pytest.mark.parametrize("longer", [False, True])
def test_the_law_of_a_picture_with_exact_details_is_the_recursion_s_of_its_average(longer: bool) -> None:
    """The published table begins where 0.19 of the signal's energy is left: exact estimates miss the mean by far. A
    longer table draws the law of x_0 given y."""
    e, v, n = 2.0, 0.3, 20_000
    recipe = Recipe(channels=1, levels=1000, calls=200) if longer else Recipe(channels=1)
    process, times = recipe.process(), recipe.times()
    world = sf.GaussianWorld(torch.full((1, 1, 1), e).double(), torch.tensor([[v]]).double())
    told = {"fine": normal(1, 3, 2, 2).expand(n, -1, -1, -1), "coarse": normal(1, 3, 1, 1).expand(n, -1, -1, -1)}
    told |= {"whole": torch.empty(n, 1, 4, 4)}
    x1 = Noise(0).normal(torch.empty(n, 1, 1, 1).double())
    low = sample(world.denoiser(process), recipe.sampler(), x1=x1, times=times, noise=Noise(1))
    x = recipe.picture(recipe.model(), low, told)
    bars = [process.alpha(t) ** 2 for t in times[:-1]]
    mean, var = by_the_paper(e, v, bars)
    if longer:
        assert mean == pytest.approx(e, abs=0.05) and var == pytest.approx(v, rel=0.05)
    else:
        assert bars[0] == pytest.approx(0.19, abs=0.01) and process.alpha(1.0) ** 2 == pytest.approx(0.13, abs=0.005)
        assert e - mean > 0.3
    # Each pixel is a quarter of the average (1/2 a level) and its details; all 16 move together.
    flat = rebuilt(torch.zeros(1, 1, 1, 1).double(), [told["fine"][:1], told["coarse"][:1]])
    assert torch.allclose(x.mean(0), flat[0] + mean / 4, atol=4 * math.sqrt(var / 16 / n))
    c = torch.cov(x.flatten(1).T)
    assert torch.allclose(c, torch.full_like(c, var / 16), rtol=4 * math.sqrt(2 / n))


def test_what_the_network_is_told() -> None:
    recipe, D = made()
    with torch.no_grad():
        for net in D.details:
            net.leave.weight.zero_()
            net.leave.bias.zero_()
    y = normal(2, 1, 10, 15)  # grown to 12 x 16 by reflection
    told = recipe.condition(D, {"image": y}, Noise(0))
    assert told["image"].shape == (2, 1, 3, 4)
    close(recipe.picture(D, told["image"], told), y)  # details are y's own before training
    assert torch.equal(recipe.state(told), told["image"])
    average, (fine, coarse) = pyramid(normal(1, 1, 8, 8), 2)
    other = D.bands(rebuilt(average, [fine, coarse]))
    close(other["image"], average)
    close(other["fine"], fine)
    close(other["coarse"], coarse)
    with torch.no_grad():
        D.details[0].leave.bias.fill_(1.0)  # the first of the nets makes the finest details
    changed = D.bands(rebuilt(average, [fine, coarse]))
    close(changed["fine"], fine + 1.0)
    close(changed["coarse"], coarse)


def test_the_detail_net_mixes_all_three_bands_and_knows_them_apart() -> None:
    torch.manual_seed(0)
    net, d = DetailNet(2, 4).double(), normal(1, 6, 9, 9)
    assert torch.equal(net(d), d)
    with torch.no_grad():
        net.leave.weight.normal_()
        for cross in net.crossed:
            cross.out.weight.normal_()
    base = net(d) - d
    for band in range(3):
        moved = d.clone()
        moved[:, 2 * band : 2 * band + 2, 4, 4] += 1.0
        change = (net(moved) - moved - base).detach().abs()
        assert bool((change.sum((2, 3)) > 1e-4).all())
    swapped = torch.cat([d[:, 2:4], d[:, :2], d[:, 4:]], 1)
    assert not torch.allclose(net(swapped) - swapped, base, atol=1e-3)


class Fixed(nn.Module):
    """Says eps as a number times the picture beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, u: Tensor, c_noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return self.gain * cond["image"]


def test_the_loss_of_a_draw_is_the_public_code_s() -> None:
    """Its DDIM run and its losses, written out: bands side by side in one mean, pictures in [0, 1]."""
    recipe, D = made(calls=4, inside=4)
    D.inner.net = Fixed()
    x0, y = (normal(2, 1, 16, 20, seed=k).clamp(-1, 1) for k in (1, 2))
    told = D.bands(y)
    got = recipe.objective(D).of_draw(x0, told, Noise(5))
    betas = torch.linspace(1e-4, 2e-2, 200, dtype=torch.float64)
    bar = torch.cat([torch.ones(1).double(), (1 - betas).cumprod(0)])
    x, f = Noise(5).normal(told["image"]), 0.3 * told["image"]
    for i, j in ((150, 100), (100, 50), (50, 0), (0, -1)):
        a, b = bar[i + 1], bar[j + 1]
        x = b.sqrt() * (x - (1 - a).sqrt() * f) / a.sqrt() + (1 - b).sqrt() * f
    first = merge(x, told["coarse"])
    seen = ((merge(first, told["fine"]) + 1) / 2).clamp(0, 1)
    true_first, details = pyramid(x0, 1)[0], pyramid(x0, 2)[1]
    for row in range(2):
        want = (seen[row] - (x0[row] + 1) / 2).abs().mean() + 1 - ssim(seen, (x0 + 1) / 2)[row]
        pairs = ((told["fine"], details[0]), (told["coarse"], details[1]), (first, true_first))
        for a, b in pairs:
            want = want + 0.1 * (a[row] - b[row]).square().mean()
            steps = (a[row, :, 1:] - a[row, :, :-1], a[row, :, :, 1:] - a[row, :, :, :-1])
            want = want + 0.01 * 2 * sum(s.square().mean() for s in steps)
        close(got[row].detach(), want.detach(), 1e-9)


def test_gradients_of_the_draw_reach_the_noise_net_through_every_step_and_the_details() -> None:
    recipe, D = made(calls=4, inside=4)
    D.inner.net = Fixed()
    x0, y = normal(1, 1, 16, 16, seed=1), 0.1 * normal(1, 1, 16, 16, seed=2)
    objective = recipe.objective(D)

    def loss() -> Tensor:
        return objective.of_draw(0.1 * x0, D.bands(y), Noise(5)).sum()

    gain = D.inner.net.gain
    loss().backward()
    found, h = float(gain.grad), 1e-5
    with torch.no_grad():
        up = float(loss()) if gain.add_(h) is not None else 0.0
        down = float(loss()) if gain.sub_(2 * h) is not None else 0.0
        gain.add_(h)
    assert found == pytest.approx((up - down) / (2 * h), rel=1e-5) and abs(found) > 1e-4
    assert all(float(p.grad.abs().sum()) > 0 for p in D.details[1].leave.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in D.details[0].leave.parameters())
    whole = objective(0.1 * x0, {"image": y}, Noise(0))
    assert whole.shape == (1,) and objective.noise.denoiser is D.inner and objective.denoiser is D
    first = Noise(0)  # the error of eps is drawn first, from the same stream
    error = objective.noise(pyramid(0.1 * x0, 2)[0], D.bands(y), first)
    close(whole.detach(), (error + objective.of_draw(0.1 * x0, D.bands(y), first)).detach())


def test_a_model_enhances_pictures_of_any_size() -> None:
    recipe, D = made()
    model = Model(Affine.unit(), D.eval(), {"recipe": "diffll", "fields": dict(SMALL), "event": [1, None, None]})
    y = torch.rand(2, 1, 9, 14, generator=torch.Generator().manual_seed(0)).double()
    result = model.enhance(y, samples=2, seed=3)
    assert result.samples.shape == (2, 2, 1, 9, 14) and result.nfe == 2
    noise = Seeds.keyed(3, [(1, 1)])
    with torch.no_grad():
        told = D.bands(y[1:] * 2 - 1)
        low = sample(D.given(told), recipe.sampler(), x1=noise.normal(told["image"]), times=recipe.times(), noise=noise)
    close(result.samples[1, 1], recipe.picture(D, low, told)[0] * 0.5 + 0.5, 1e-9)
    assert [round(t * 200) for t in Recipe().times()] == [*range(181, 0, -20), 0]
