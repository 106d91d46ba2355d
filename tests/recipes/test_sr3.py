"""SR3: any number of steps after training, with the paper's own step and its variance."""

from __future__ import annotations

import math

import pytest
import torch
from drawn_by_paper import ancestral

import sfumato as sf
from sfumato.noise import Noise
from sfumato.recipes.sr3 import Recipe
from sfumato.samplers import sample

SMALL = {"channels": 1, "widths": (8,), "calls": 20}


@pytest.mark.parametrize("v", [0.5, 0.01])
@pytest.mark.parametrize("steps", [50, 200])
def test_a_draw_follows_the_paper_s_recursion(v: float, steps: int) -> None:
    recipe = Recipe()
    process, times = recipe.process(), recipe.times(steps)
    world = sf.GaussianWorld(torch.tensor([0.3]).double(), torch.tensor([[v]]).double())
    n = 40_000
    x = sample(
        world.denoiser(process), recipe.sampler(), x1=Noise(0).normal(torch.empty(n, 1).double()), times=times,
        noise=Noise(1),
    )  # fmt: skip
    mean, var = ancestral(v, 0.3, [process.alpha(t) ** 2 for t in times[:-1]])
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))
    assert var > v  # the large variance errs high


def test_more_steps_come_nearer() -> None:
    recipe = Recipe()
    process = recipe.process()
    found = []
    for steps in (50, 200, 2000):
        gammas = [process.alpha(t) ** 2 for t in recipe.times(steps)[:-1]]
        found.append(ancestral(0.01, 0.0, gammas)[1] / 0.01)
    assert found[0] > found[1] > found[2] > 1.0 and found[2] < 1.02


def test_the_network_is_told_the_level_and_sees_the_picture() -> None:
    """c_noise = sqrt(gamma), between two levels of the table too; y lies beside x_t; the answer is the noise."""
    recipe = Recipe(**SMALL)
    D, seen = recipe.model(), {}

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.update(u=u, c_noise=c_noise, image=cond["image"])
            return 0.25 * torch.ones_like(u)

    D.net = Told()
    x, y, t = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.tensor([0.20025, 0.7])
    got = D(x, t, {"image": y}).mean
    alpha, sigma = recipe.process().alpha(t), recipe.process().sigma(t)
    assert torch.allclose(seen["c_noise"], alpha.float()) and torch.equal(seen["u"], x)
    low, high = (recipe.process().alpha(n / 2000) for n in (400, 401))
    assert high < float(alpha[0]) < low
    assert torch.allclose(got, ((x - 0.25 * sigma.view(2, 1, 1, 1)) / alpha.view(2, 1, 1, 1)).float(), atol=1e-5)
    assert torch.equal(seen["image"], y)


def test_the_loss_is_that_of_the_noise() -> None:
    """A network that says zeros has the loss E eps^2 = 1 at every level; the levels lie in the trained range."""
    recipe = Recipe(**SMALL)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
    x0 = torch.zeros(512, 1, 4, 4)
    with torch.no_grad():
        loss = recipe.objective(D)(x0, {"image": x0}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))
    t = recipe.objective(D).times(recipe.process(), 1000, Noise(0))
    assert float(t.min()) > 0.0 and float(t.max()) <= 1.0


def test_estimates_are_held_to_the_range() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.guide(recipe.model())
    assert D(torch.full((1, 1, 4, 4), 9.0), 0.01, {"image": torch.zeros(1, 1, 4, 4)}).mean.max() == 1.0
