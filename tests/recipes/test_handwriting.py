"""Luhman & Luhman's handwriting: the figures of three samplers, the pen's loss, and a network that is told its text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import sfumato as sf
from sfumato.estimate import Estimate
from sfumato.recipes.handwriting import Between, Penned, Recipe, Written
from sfumato.samplers import Ancestral, sample

TINY = {"widths": (8, 16, 16, 16), "heads": 2, "steps": 6, "length": 16}


class Fixed(sf.Noise):
    """Every normal number is this one."""

    def __init__(self, value):
        self.value = value

    def normal(self, like):
        return torch.full_like(like, self.value)


class Exact(sf.denoisers.Denoiser):
    """That of N(0, 1)."""

    def __init__(self, process):
        super().__init__()
        self.process = process

    def forward(self, xt, t, cond=None):
        a, b = self.process.alpha(t), self.process.sigma(t)
        return Estimate(a / (a * a + b * b) * xt)


def moves(sampler, process, times):
    """(gain, standard deviation) of each step."""
    for t, s in pairwise(times):
        yield tuple(
            float(sampler.step(Exact(process), torch.full((1, 1), x).double(), t, s, None, Fixed(z))[0])
            for x, z in ((1.0, 0.0), (0.0, 1.0))
        )


def test_the_schedule_of_the_paper():
    process = Recipe().process()
    bars = (1.0, *process.alpha_bars)
    betas = [1 - b / a for a, b in pairwise(bars)]
    assert betas[0] == pytest.approx(0.02001, abs=1e-9) and betas[-1] == pytest.approx(0.42, abs=1e-9)
    assert len(betas) == 60 and bars[-1] == pytest.approx(0.0175, abs=5e-5)
    assert (betas[30] - 0.02) / (betas[29] - 0.02) == pytest.approx(4e4 ** (1 / 59))


@pytest.mark.parametrize(
    ("sampler", "variance"),
    [(Recipe().sampler(), 0.4684), (Ancestral(), 0.9190), (Recipe(way="standard").sampler(), 0.98)],
)
def test_the_variance_that_each_sampler_leaves(sampler, variance):
    """Of data N(0, 1), started at N(0, 1), with the exact D."""
    recipe, v = Recipe(), 1.0
    for gain, std in moves(sampler, recipe.process(), recipe.times()):
        v = gain**2 * v + std**2
    assert v == pytest.approx(variance, abs=5e-5)
    assert std == 0.0  # the last step adds no noise


def test_the_early_stop_of_the_code_has_the_other_figure():
    """Without the noise of the last step but one the new sampler leaves 0.4488."""
    recipe, v = Recipe(), 1.0
    steps = list(moves(recipe.sampler(), recipe.process(), recipe.times()))
    for i, (gain, std) in enumerate(steps):
        v = gain**2 * v + (0.0 if i == len(steps) - 2 else std**2)
    assert v == pytest.approx(0.4488, abs=5e-5)


def test_the_new_step_is_the_papers():
    """(x_n - sigma_n eps) / sqrt(1 - beta_n) + sqrt(1 - alpha_{n-1}^2) z, at every n."""
    recipe = Recipe(steps=7)
    process, times = recipe.process(), recipe.times()
    bars = (1.0, *process.alpha_bars)
    x, z = 0.7, 1.3
    for i, (t, s) in enumerate(pairwise(times)):
        n = 7 - i
        eps = x * math.sqrt(1 - bars[n])  # of N(0, 1): (x - alpha alpha x) / sigma
        want = (x - math.sqrt(1 - bars[n]) * eps) / math.sqrt(bars[n] / bars[n - 1]) + math.sqrt(1 - bars[n - 1]) * z
        got = recipe.sampler().step(Exact(process), torch.full((1, 1), x, dtype=torch.float64), t, s, None, Fixed(z))[0]
        assert float(got) == pytest.approx(want, abs=1e-12)


def test_levels_lie_between_neighbours_and_never_above_the_first():
    """Each of the N - 1 intervals has one share, and alpha^2 is uniform inside."""
    process = Recipe(steps=5).process()
    bars = torch.tensor(process.alpha_bars)
    n = 20_000
    t = Between(process.alpha_bars)(process, n, sf.Noise(0))
    squares = torch.tensor([process.alpha(float(v)) ** 2 for v in t])
    assert float(squares.max()) <= bars[0] + 1e-12 and float(squares.min()) >= bars[-1] - 1e-12
    for high, low in pairwise(bars):
        inside = (squares > low) & (squares <= high)
        assert float(inside.double().mean()) == pytest.approx(0.25, abs=0.013)
        part = ((squares[inside] - low) / (high - low)).double()
        assert float(part.mean()) == pytest.approx(0.5, abs=0.02) and float(part.var()) == pytest.approx(
            1 / 12, abs=0.006
        )


class Constant(nn.Module):
    """Says one noise and one logit, and keeps what it was asked."""

    def __init__(self, eps=0.5, logit=0.8):
        super().__init__()
        self.eps, self.logit, self.asked = eps, logit, None

    def forward(self, u, level, text=None):
        self.asked = (u, level, text)
        return torch.full_like(u, self.eps), torch.full_like(u[:, :1], self.logit)


def test_the_estimate_and_what_the_network_sees():
    recipe, net = Recipe(steps=6), Constant()
    model = Penned(net, recipe.process(), recipe)
    xt = sf.Noise(0).normal(torch.zeros(2, 3, 8).double())
    for t in (0.5, torch.tensor([0.5, 0.5])):
        estimate = model(xt, t)
        alpha, sigma = recipe.process().alpha(0.5), recipe.process().sigma(0.5)
        assert torch.allclose(estimate.mean[:, :2], (xt[:, :2] - 0.5 * sigma) / alpha)
        assert torch.allclose(estimate.mean[:, 2], torch.tensor(1 / (1 + math.exp(-0.8))).double())
        assert torch.equal(net.asked[0], xt[:, :2]) and net.asked[1].flatten().tolist() == pytest.approx(
            [alpha] * net.asked[1].numel()
        )


def test_the_loss_by_hand():
    """The square of the noise's error, summed over x and y, and the pen's cross-entropy times its own alpha^2."""
    recipe = Recipe(steps=6)
    model = Penned(Constant(), recipe.process(), recipe)
    x0 = sf.Noise(1).normal(torch.zeros(4000, 3, 8).double())
    x0[:, 2] = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    times = Between(recipe.process().alpha_bars)
    loss = recipe.objective(model)(x0, None, Fixed2(0.3))
    t = times(recipe.process(), 4000, Fixed2(0.3))
    square = recipe.process().alpha(t) ** 2
    bce = (math.log1p(math.exp(-0.8)) + 7 * math.log1p(math.exp(0.8))) / 8
    assert torch.allclose(loss, 2 * (0.3 - 0.5) ** 2 + square * bce, atol=1e-9)
    assert float(square.std()) > 0.1  # weights differ from sample to sample


class Fixed2(Fixed):
    """One normal number, and the same uniform ones each time."""

    def uniform(self, like):
        return sf.Noise(5).uniform(like)


def test_texts_are_dropped_for_guidance():
    net, recipe = Constant(), Recipe(steps=6, classes=4, drop=0.25)
    written = recipe.objective(Penned(net, recipe.process(), recipe))
    assert isinstance(written, Written) and written.drop == 0.25
    written(torch.zeros(4000, 3, 8), torch.full((4000, 2), 1), sf.Noise(0))
    text = net.asked[2]
    lost = (text == 4).all(1)
    assert bool((lost | (text == 1).all(1)).all()) and float(lost.double().mean()) == pytest.approx(0.25, abs=0.03)
    assert Recipe(drop=0.25).objective(Penned(net, recipe.process(), recipe)).drop == 0.0


def shaken(model):
    for i, weight in enumerate(model.parameters()):
        weight.data.add_(0.2 * sf.Noise(i).normal(weight.data))
    return model


@pytest.mark.parametrize("classes", [0, 3])
def test_the_network_hears_its_level_its_text_and_every_place(classes):
    torch.manual_seed(0)
    model = shaken(Recipe(**TINY, classes=classes).model()).double()
    x = sf.Noise(0).normal(torch.zeros(1, 2, 16).double())
    text = torch.tensor([1]) if classes else None
    one = model.net(x, torch.tensor([0.5]), text)
    assert [tuple(part.shape) for part in one] == [(1, 2, 16), (1, 1, 16)]
    assert not torch.allclose(model.net(x, torch.tensor([0.6]), text)[0], one[0])
    J = torch.autograd.functional.jacobian(lambda v: model.net(v, torch.tensor([0.5]), text)[0].sum(1)[0, 0], x)
    assert bool((J.abs().sum(1) > 0).all())  # the first place hears the last
    assert all(p.grad is None for p in model.parameters())
    sum(part.square().sum() for part in model.net(x, torch.tensor([0.5]), text)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []
    if classes:
        assert not torch.allclose(model.net(x, torch.tensor([0.5]), torch.tensor([2]))[0], one[0])
        assert not torch.allclose(  # the order of a text counts
            model.net(x, torch.tensor([0.5]), torch.tensor([[1, 2]]))[0],
            model.net(x, torch.tensor([0.5]), torch.tensor([[2, 1]]))[0],
        )
        with pytest.raises(ValueError, match="writes a text"):
            model.net(x, torch.tensor([0.5]))


def test_what_the_network_refuses():
    with pytest.raises(ValueError, match="multiple of 8"):
        Recipe(**TINY).model().net(torch.zeros(1, 2, 12), torch.tensor([0.5]))
    for widths in ((8, 16, 16), (8, 15, 16, 16)):
        with pytest.raises(ValueError, match="4 widths, all but the first multiples of 2"):
            Recipe(**{**TINY, "widths": widths}).model()


@pytest.mark.parametrize("way", ["new", "standard"])
def test_a_draw_ends_at_the_estimate_with_the_pen_of_the_last_call(way):
    torch.manual_seed(0)
    recipe = Recipe(**TINY, way=way)
    model = shaken(recipe.model())
    own, times = model.drawing()
    x1 = sf.Noise(3).normal(torch.zeros(2, 3, 16))
    with torch.no_grad():
        x = sample(model, own, x1=x1, times=times, noise=sf.Noise(0))
        assert bool(((x[:, 2] >= 0) & (x[:, 2] <= 1)).all())
        other = x1.clone()
        other[:, 2] += 5.0  # what stands in the third row is no one's business
        assert torch.allclose(sample(model, own, x1=other, times=times, noise=sf.Noise(0)), x, atol=1e-5)
