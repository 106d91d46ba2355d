"""ShadowDiffusion: the proximal step in [0, 1], its place in a draw, the mask that is refined, and the loss."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data.damages.light import Shadow
from sfumato.denoisers.shadowed import Lit
from sfumato.estimate import Estimate
from sfumato.nets.light import Light
from sfumato.noise import Noise, Seeds
from sfumato.recipes.shadow_diffusion import Antithetic, KeptNoise, Recipe
from sfumato.samplers import DDIM, sample
from sfumato.zoo import Model

SMALL = {"channels": 3, "widths": (8,), "calls": 5}


class Says(sf.denoisers.Denoiser):
    """D is what it was made with."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.process, self.mean = Recipe().process(), mean

    def forward(self, xt: Tensor, t: float | Tensor, cond: object = None) -> Estimate:
        return Estimate(self.mean.expand_as(xt), aux={"mask": xt[:, :1]})


def moved(D: Tensor, y: Tensor, h: Tensor, g: float) -> Tensor:
    """D' in [0, 1] of D and y in [0, 1]."""
    lit = Lit(Says(2 * D - 1), lambda cond: h, lambda t: g)
    return (lit(torch.zeros_like(D), 0.5, {"image": 2 * y - 1}).mean + 1) / 2


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    u = Noise(0).uniform(torch.empty(3, 2, 3, 4, 4, dtype=torch.float64))
    return u[0], u[1], 0.05 + 0.95 * u[2]


@pytest.mark.parametrize("g", [0.01, 0.2, 5.0])
def test_the_step_is_where_the_gradient_of_its_problem_is_zero(g: float) -> None:
    D, y, h = drawn()
    x = moved(D, y, h, g).requires_grad_()
    problem = (y - h * x).square().sum() + g * (x - D).square().sum()
    (slope,) = torch.autograd.grad(problem, x)
    assert float(slope.abs().max()) < 1e-12


def test_its_ends() -> None:
    D, y, h = drawn()
    assert torch.allclose(moved(D, y, h, 1e12), D, atol=1e-9)
    assert torch.allclose(moved(D, y, h, 1e-14), y / h, atol=1e-9)
    assert torch.allclose(moved(D, y, torch.ones_like(h), 1e-14), y, atol=1e-9)
    assert torch.allclose(moved(D, y, torch.full_like(h, 1e-9), 0.2), D, atol=1e-7)  # no light: no y / h


def test_the_truth_stays_where_it_is() -> None:
    """y = h x holds in [0, 1]: with D = x the step does nothing, whatever g. (In [-1, 1] it would not.)"""
    x, _, h = drawn()
    assert torch.allclose(moved(x, h * x, h, 0.2), x, atol=1e-12)


def test_the_weights_add_to_one() -> None:
    """The step as the public code writes it: y / h carried to [-1, 1], and mixed with D there."""
    D, y, h = drawn()
    g, back = 0.2, 2 * y / h - 1
    there = back / (1 + g / h**2) + g / (h**2 + g) * (2 * D - 1)
    assert torch.allclose(2 * moved(D, y, h, g) - 1, there, atol=1e-12)


@pytest.mark.parametrize("growth", [0.0, 0.15])
def test_a_draw_on_gaussian_data_follows_the_formula_and_is_drawn_to_the_posterior(growth: float) -> None:
    """x_0 ~ N(mu, v) elementwise, y = h x_0 known exactly, so that x_0 | y is y / h. By hand, step k with g_k:

    eps of D, D' from D, x_s = alpha_s D' + sigma_s eps. (With the eps of D' another number comes out.)
    """
    recipe = Recipe(calls=5, growth=growth)
    process, times = recipe.process(), recipe.times()
    mu, v = torch.tensor([[[0.2, -0.4]]]).double(), 0.04
    world = sf.GaussianWorld(mu, v * torch.eye(2).double())
    truth, h = torch.tensor([[[[0.5, -0.1]]]]).double(), torch.tensor([[[[0.4, 0.9]]]]).double()
    y = 2 * (h * (truth + 1) / 2) - 1
    lit = Lit(world.denoiser(process), lambda cond: h, recipe.strength).given({"image": y})
    n = 200
    x1 = Noise(0).normal(torch.empty(n, 1, 1, 2).double())
    got = sample(lit, recipe.sampler(), x1=x1, times=times, noise=Noise(1))

    x = x1.clone()
    other = x1.clone()
    for k, (t, s) in enumerate(pairwise(times)):
        a, b = process.alpha(t), process.sigma(t)
        g = 0.2 + growth * k
        w = h**2 / (h**2 + g)

        def clean(x: Tensor, a: float = a, b: float = b) -> Tensor:
            return mu + a * v / (a * a * v + b * b) * (x - a * mu)

        D = clean(x)
        x = process.alpha(s) * (w * truth + (1 - w) * D) + process.sigma(s) * (x - a * D) / b
        held = w * truth + (1 - w) * clean(other)
        other = process.alpha(s) * held + process.sigma(s) * (other - a * held) / b
    assert torch.allclose(got, x, atol=1e-10)
    assert float((got - other).abs().max()) > 1e-3
    without = sample(world.denoiser(process), DDIM(), x1=x1, times=times, noise=Noise(1))
    near, far = ((each - truth).square().mean((0, 1, 2)) for each in (got, without))
    assert bool((near < 0.8 * far).all())


def test_ddim_where_no_noise_is_kept() -> None:
    process = Recipe().process()
    world = sf.GaussianWorld(torch.zeros(1, 1, 2).double(), torch.eye(2).double())
    x1 = Noise(0).normal(torch.empty(4, 1, 1, 2).double())
    runs = [
        sample(world.denoiser(process), how, x1=x1, times=(1.0, 0.4, 0.0), noise=Noise(1))
        for how in (KeptNoise(), DDIM())
    ]
    assert torch.allclose(runs[0], runs[1], atol=1e-12)


def test_the_network_sees_the_first_mask_at_every_step_and_says_another() -> None:
    recipe = Recipe(**SMALL)
    D, seen = recipe.model(), []

    class Told(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: dict) -> Tensor:
            seen.append(cond["image"])
            return torch.cat([torch.zeros_like(u), torch.full_like(u[:, :1], 0.7)], 1)

    D.net = Told()
    y, rough, fine = torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4), -torch.ones(1, 1, 4, 4)
    cond = {"image": y, "rough": rough, "mask": fine}
    bound = recipe.guide(D).given(cond)
    sample(bound, recipe.sampler(), x1=torch.zeros(1, 3, 4, 4), times=recipe.times(), noise=Noise(0))
    assert len(seen) == 5 and all(torch.equal(told, torch.cat([y, rough], 1)) for told in seen)
    estimate = bound(torch.full((1, 3, 4, 4), 0.3), 0.5)
    assert torch.equal(estimate.aux["mask"], torch.full((1, 1, 4, 4), 0.7))
    del cond["rough"]
    D(torch.zeros(1, 3, 4, 4), 0.5, cond)
    assert torch.equal(seen[-1], torch.cat([y, fine], 1))
    with pytest.raises(ValueError, match="needs a mask"):
        D(torch.zeros(1, 3, 4, 4), 0.5, {"image": y})
    with pytest.raises(ValueError, match="needs a mask"):
        D(torch.zeros(1, 3, 4, 4), 0.5)


def test_the_estimate_is_that_of_the_noise() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    D.net = torch.nn.Module()
    D.net.forward = lambda u, c, cond: torch.full((1, 4, 2, 2), 0.25)  # type: ignore[method-assign]
    x, cond = torch.rand(1, 3, 2, 2).double(), {"image": torch.zeros(1, 3, 2, 2), "mask": torch.zeros(1, 1, 2, 2)}
    a, s = recipe.process().alpha(0.5), recipe.process().sigma(0.5)
    assert torch.allclose(D(x, 0.5, cond).mean, (x - 0.25 * s) / a)


def test_the_known_light_goes_before_the_estimated() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    y = torch.rand(1, 3, 4, 4)
    cond = {"image": y, "mask": torch.ones(1, 1, 4, 4)}
    # untrained, the last layer is 0: sigmoid(2) of the way from 0.05 to 1
    assert torch.allclose(D.light(cond), torch.full_like(y, 0.05 + 0.95 / (1 + math.exp(-2.0))))
    assert torch.equal(D.light({**cond, "light": torch.full_like(y, -0.2)}), torch.full_like(y, 0.4))
    assert D.light({**cond, "image": y.double()}).dtype == torch.float64
    told = []

    class Dark(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
            told.append((u, c_noise))
            return torch.full_like(u[:, :3], -60.0)

    assert torch.allclose(Light(Dark())(y, cond["mask"]), torch.full_like(y, 0.05))
    assert torch.equal(told[0][0], torch.cat([y, cond["mask"]], 1)) and told[0][1].tolist() == [0.0]
    for floor in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Light(Dark(), floor)


def test_the_loss_counts_noise_mask_and_light() -> None:
    """A net of zeros: E |eps| = sqrt(2 / pi) for each number of x_0, half a pixel of the mask for three of them."""
    recipe = Recipe(**SMALL)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
    x0 = torch.full((256, 3, 4, 4), 0.5)  # 0.75 of [0, 1]
    darker = torch.tensor([0.0, 0.05, 0.097]).reshape(3, 1, 1)  # mean 0.049: no shadow
    lost = darker.repeat(256, 1, 4, 4)
    lost[:, 2, :2] = 0.103  # mean 0.051 in half the pixels
    y = 2 * (0.75 - lost) - 1
    cond = {"image": y, "mask": torch.zeros(256, 1, 4, 4), "light": torch.ones(256, 3, 4, 4)}
    with torch.no_grad():
        loss = recipe.objective(D)(x0, cond, Noise(0))
    want = math.sqrt(2 / math.pi) + 0.5 * 0.5 / 3 + float(lost.square().mean())
    assert loss.shape == (256,)
    assert float(loss.mean()) == pytest.approx(want, abs=4 * math.sqrt((1 - 2 / math.pi) / x0.numel()))
    with torch.no_grad():
        dark = recipe.objective(D)(x0, {**cond, "light": -torch.ones(256, 3, 4, 4)}, Noise(0))
    assert torch.allclose(dark - loss, (0.75 - lost).square().flatten(1).mean(1) - lost.square().flatten(1).mean(1),
                          atol=1e-5)  # fmt: skip


def test_levels_come_in_pairs() -> None:
    t = Antithetic(10)(Recipe().process(), 1001, Noise(0)) * 10
    assert torch.equal(t, t.round()) and t.min() == 1 and t.max() == 10
    assert torch.allclose(t[:500] + t[501:], torch.tensor(11.0).double())
    assert len(Antithetic(10)(Recipe().process(), 1, Noise(0))) == 1
    assert len(Antithetic(10)(Recipe().process(), 4, Noise(0))) == 4


class Pointwise(torch.nn.Module):
    """A network of each pixel by itself, in the place of a U-Net."""

    def __init__(self, seen: int, out: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(seen, 16, 1), torch.nn.Tanh(), torch.nn.Conv2d(16, 16, 1), torch.nn.Tanh(),
            torch.nn.Conv2d(16, out, 1),
        )  # fmt: skip

    def forward(self, u: Tensor, c_noise: Tensor, cond: dict | None = None) -> Tensor:
        return self.layers(u if cond is None else torch.cat([u, cond["image"]], 1))


def test_training_recovers_the_mask_and_the_light() -> None:
    """Walls in hard shadows, told the rough mask: the head learns where x_0 - y reaches 0.05, the other net h."""
    recipe = Recipe(channels=1, widths=(8,), levels=100)
    torch.manual_seed(0)
    D = recipe.model()
    D.net, D.degradation.net = Pointwise(3, 2), Pointwise(2, 1)
    objective, noise = recipe.objective(D), Noise(0)
    optimizer = torch.optim.Adam(D.parameters(), 2e-2)
    # walls of one brightness, the left part in shadow; the rough mask is one pixel too narrow
    u = torch.rand(48, 2, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    walls = (0.5 + 0.5 * u[:, 0]).expand(48, 1, 4, 8)
    dark = (torch.arange(8) < 2 + (5 * u[:, 1]).floor()).expand(48, 1, 4, 8).float()
    rough = (torch.arange(8) < 1 + (5 * u[:, 1]).floor()).expand(48, 1, 4, 8).float()
    x0, cond = 2 * walls - 1, {"image": 2 * walls * (1 - 0.6 * dark) - 1, "rough": 2 * rough - 1}
    seen, held = ({key: v[rows] for key, v in cond.items()} for rows in (slice(32), slice(32, 48)))
    for _ in range(100):
        optimizer.zero_grad()
        objective(x0[:32], seen, noise).mean().backward()
        optimizer.step()
    true = dark[32:] > 0
    with torch.no_grad():
        found = D(D.process.perturb(x0[32:], 0.3, noise.normal(x0[32:])), 0.3, held).aux["mask"] > 0.5
        light = D.light(held)
    assert float((found & true).sum()) / float((found | true).sum()) > 0.97
    assert float((light - torch.where(true, 0.4, 1.0)).abs().mean()) < 0.05


def test_every_weight_is_trained() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    y = torch.rand(2, 3, 8, 8)
    recipe.objective(D)(-y, {"image": y, "rough": y[:, :1]}, Noise(0)).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in D.parameters())


def test_a_model_removes_a_shadow_given_its_mask() -> None:
    """The whole way: mask in data space, the true light beside it, any batch the same."""
    recipe = Recipe(**SMALL)
    torch.manual_seed(0)
    fields = {"channels": 3, "widths": [8], "calls": 5}
    model = Model(
        Affine.unit(), recipe.model(), {"recipe": "shadow-diffusion", "fields": fields, "event": [3, None, None]}
    )
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = [Shadow(softness=(0.0,))(each, Noise(i)) for i, each in enumerate(x)]
    y, mask = (torch.stack([p[key] for p in parts]) for key in ("image", "mask"))
    h = 1 - mask * (1 - 0.4 * torch.tensor([0.9, 1.0, 1.1]).reshape(3, 1, 1))
    whole = model.enhance(y, beside={"mask": mask, "light": h}, samples=2, seed=3)
    alone = model.enhance(y, beside={"mask": mask, "light": h}, samples=2, seed=3, batch=1)
    assert whole.samples.shape == (2, 2, 3, 8, 8) and whole.nfe == 5
    assert torch.allclose(whole.samples, alone.samples, atol=1e-4)
    with pytest.raises(ValueError, match="needs a mask"):
        model.enhance(y)
    # the last step is D' itself: between D and y / h, with the weights of g = 0.2
    D = recipe.guide(model.denoiser).given({"image": 2 * y - 1, "mask": 2 * mask - 1, "light": 2 * h - 1})
    noise = Seeds.keyed(3, [(0, 0), (1, 0)])
    steps = list(sf.trajectory(D, KeptNoise(), D.process.prior(2 * y - 1).sample(noise), recipe.times(), noise))
    D_last = model.denoiser(steps[-2].x, steps[-2].time, {"image": 2 * y - 1, "mask": 2 * mask - 1}).mean
    want = (h * y + 0.2 * (D_last + 1) / 2) / (h**2 + 0.2)
    assert torch.allclose(whole.samples[0], want, atol=1e-3)
