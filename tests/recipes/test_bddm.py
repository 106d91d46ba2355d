"""BDDM: the step loss is a KL, the search follows its recursion, the grid has the levels of the betas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from worlds_for_tests import close, full_world, normal, tensor

from sfumato import Noise
from sfumato.denoisers import Counted, MeanOnly
from sfumato.laws import Normal
from sfumato.recipes.bddm import Recipe, StepLoss, step_loss
from sfumato.samplers import Ancestral


@pytest.mark.parametrize("b", [0.01, 0.2, 0.6])
def test_the_step_loss_is_a_kl_at_one_half_and_published_at_a_quarter(b: float) -> None:
    """KL( p(x_{n-1} | x_n) || q(x_{n-1} | x_0) ) of a step of variance b from a level d^2: the mean of p is
    (x_n - b / d eps^) / sqrt(1 - b), its variance b (1 - abar') / d^2, q is N(sqrt(abar') x_0, 1 - abar')."""
    delta2 = 0.7
    x0, eps, guess = normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    bar = 1 - delta2
    before = bar / (1 - b)
    xn = math.sqrt(bar) * x0 + math.sqrt(delta2) * eps
    p = Normal((xn - b / math.sqrt(delta2) * guess) / math.sqrt(1 - b), math.sqrt(b * (1 - before) / delta2))
    kl = p.kl(Normal(math.sqrt(before) * x0, math.sqrt(1 - before)))
    d2, size = tensor(*[delta2] * 4), tensor(*[b] * 4)
    close(step_loss(eps, guess, d2, size, 0.5), kl, 1e-10)
    close(step_loss(eps, guess, d2, size), kl - 3 / 4 * math.log(delta2 / b), 1e-10)


class Half(nn.Module):
    """phi with one weight."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__()
        self.value = nn.Parameter(tensor(value))

    def forward(self, x):
        return self.value.expand(len(x))


def test_training_draws_a_step_and_leaves_the_denoiser_alone() -> None:
    recipe = Recipe(train=20, first=0.01, last=0.3, tau=6)
    process, x0, phi = recipe.process(), normal(200, 3), Half(0.4)
    D = full_world().denoiser(process)
    D.spare = nn.Linear(1, 1)
    loss = recipe.loss(D, phi)
    assert isinstance(loss, StepLoss) and loss.weight == 0.25
    got = loss(x0, None, Noise(3))
    got.sum().backward()
    assert phi.value.grad is not None and not any(p.requires_grad for p in D.parameters())
    # by hand, from the same stream: steps tau .. T - tau - 1 of a table counted from 0
    stream = Noise(3)
    n = 6 + stream.choice(torch.ones(200, 8).double())
    assert sorted(n.unique().tolist()) == list(range(6, 14))
    eps = stream.normal(x0)
    bars = tensor(*process.alpha_bars)
    delta2 = 1 - bars[n]
    bound = torch.minimum(delta2, 1 - bars[n + 6] / bars[n])
    xt = bars[n].sqrt()[:, None] * x0 + delta2.sqrt()[:, None] * eps
    guess = (xt - bars[n].sqrt()[:, None] * D(xt, (n + 1).double() / 20).mean) / delta2.sqrt()[:, None]
    close(got, step_loss(eps, guess, delta2, 0.4 * bound), 1e-9)


def test_the_search_follows_the_papers_recursion() -> None:
    """The step of the public code by hand, phi from the state after it."""
    recipe = Recipe(level=0.38, variance=0.6, most=5)
    process, x = recipe.process(), normal(1, 3)
    D = Counted(full_world().denoiser(process))

    def phi(x):
        return torch.sigmoid(x.sum(1))

    betas = recipe.search(D, phi, x, Noise(4))
    inner, stream, a, b, want = MeanOnly(D.inner), Noise(4), 0.38, 0.6, [0.6]
    for _ in range(4):
        before = a / math.sqrt(1 - b)
        if before >= 1:
            break
        t = process.time_of(math.log(a**2 / (1 - a**2)))
        e = (x - a * inner(x, t).mean) / math.sqrt(1 - a**2)
        x = (x - b / math.sqrt(1 - a**2) * e) / math.sqrt(1 - b)
        x = x + math.sqrt((1 - before**2) / (1 - a**2) * b) * stream.normal(x)
        a, b = before, min(b, 1 - before**2) * float(phi(x))
        if b < 1e-4:
            break
        want.append(b)
    assert len(want) > 2
    close(tensor(*betas), tensor(*want[::-1]), 1e-8)
    assert D.calls == len(betas) - (len(betas) == 5)


def test_searches_end() -> None:
    """At the longest, below the first beta of training, or where nothing of the level is left."""
    x, D = normal(2, 3), full_world().denoiser(Recipe().process())

    def run(value: float, **fields: float) -> tuple[float, ...]:
        return Recipe(**fields).search(D, Half(value), x, Noise(0))

    found = run(0.7, level=0.4, variance=0.4)
    assert list(found) == sorted(found) and found[0] > 0 and found[-1] == 0.4
    assert len(run(0.9, level=0.37, variance=0.1, most=3)) == 3
    assert run(1e-5, level=0.5, variance=0.5) == (0.5,)
    assert run(0.5, level=0.9, variance=0.5) == (0.5,)  # 0.81 / 0.5 > 1
    assert run(0.5, level=0.5, variance=0.5, most=1) == (0.5,)
    # the bound 1 - a^2 binds: from a^2 = 0.36 with beta 0.6, a^2 = 0.9 leaves at most 0.1
    assert run(0.5, level=0.6, variance=0.6, most=2) == pytest.approx((0.05, 0.6))
    mixed = Recipe(level=0.4, variance=0.5, most=2).search(D, lambda x: tensor(0.2, 0.6), x, Noise(0))
    assert mixed == pytest.approx((0.4 * 0.5, 0.5))


def test_the_grid_has_the_levels_of_the_betas() -> None:
    recipe, betas = Recipe(), (0.01, 0.1, 0.4)
    times = recipe.times(betas)
    assert times[-1] == 0.0 and len(times) == 4
    bars = [recipe.process().alpha(t) ** 2 for t in times[:-1]]
    assert bars == pytest.approx([0.99 * 0.9 * 0.6, 0.99 * 0.9, 0.99])
    assert recipe.sampler() == Ancestral()
    default = Recipe()
    assert (default.train, default.first, default.last, default.most, default.tau) == (200, 1e-4, 0.02, 12, 66)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level": 1.0}, "got 1.0 and 0.5"),
        ({"level": 0.0}, "got 0.0 and 0.5"),
        ({"variance": 1.0}, "got 0.5 and 1.0"),
        ({"variance": 0.0}, "got 0.5 and 0.0"),
        ({"tau": 100}, "got 100 and 12"),
        ({"tau": 0}, "got 0 and 12"),
        ({"most": 0}, "got 66 and 0"),
        ({"level": 0.36}, "level 0.36 is noisier than the training's last one: take 0.36"),
    ],
)
def test_settings_are_checked(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)
