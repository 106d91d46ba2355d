"""The recipe of non-normal noise: its loss by hand, its sampler against DDIM, the network's clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from worlds_for_tests import close, normal

from sfumato import recipes
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import GammaNoise, MixtureNoise, Table, TwoGammaNoise
from sfumato.samplers import DDIM, sample

Recipe = recipes.load("non-gaussian").Recipe
SMALL = {"channels": 1, "widths": (4,), "blocks": 1, "attention": ()}


class Shrink(Denoiser):
    """D = c x_t."""

    def __init__(self, process, c: float) -> None:
        super().__init__()
        self.process, self.c = process, c

    def forward(self, xt, t, cond=None):
        self.told = cond
        return Estimate(self.c * xt)


def test_noises_by_name() -> None:
    kinds = {"gamma": GammaNoise, "normals": MixtureNoise, "gammas": TwoGammaNoise, "normal": Table}
    for name, kind in kinds.items():
        assert type(Recipe(noise=name).process()) is kind
    process = Recipe(steps=50, first=1e-3, last=0.1, theta_0=0.3).process()
    assert process.theta_0 == 0.3 and process.base == Table.linear(50, 1e-3, 0.1)
    assert Recipe().theta_0 == 0.001 and Recipe().steps == 1000
    with pytest.raises(ValueError, match="noise is 'gamma', 'normals', 'gammas' or 'normal', got 'poisson'"):
        Recipe(noise="poisson")


@pytest.mark.parametrize("noise", ["gamma", "normals", "gammas", "normal"])
def test_loss_is_the_absolute_error_of_the_noise(noise: str) -> None:
    """With D = c x_t: e_hat - e = (x_t - alpha c x_t) / sigma - (x_t - alpha x_0) / sigma, from the same draws."""
    recipe = Recipe(steps=20, first=1e-2, last=0.3, noise=noise)
    x0, process = normal(6, 3), recipe.process()
    denoiser = Shrink(process, 0.4)
    loss = recipe.objective(denoiser)(x0, "told", Noise(2))
    assert denoiser.told == "told"
    stream = Noise(2)
    n = torch.floor(stream.uniform(torch.empty(6, dtype=torch.float64)) * 20) + 1
    xt = process.marginal(x0, n / 20).sample(stream)
    bars = torch.tensor(Table.linear(20, 1e-2, 0.3).alpha_bars, dtype=torch.float64)[n.long() - 1][:, None]
    e, e_hat = (xt - bars.sqrt() * x0) / (1 - bars).sqrt(), (xt - bars.sqrt() * 0.4 * xt) / (1 - bars).sqrt()
    close(loss, (e - e_hat).abs().mean(1), 1e-9)


def test_network_predicts_the_noise_and_is_told_the_step() -> None:
    recipe = Recipe(steps=20, first=1e-2, last=0.3, theta_0=0.3, **SMALL)
    model = recipe.model()

    class Told(nn.Module):
        def forward(self, u, level, cond=None):
            self.level = level
            return 0.5 * u

    model.net = Told()
    x = normal(2, 1, 4, 4)
    bar = Table.linear(20, 1e-2, 0.3).alpha_bars[6]
    D = model(x, 7 / 20).mean
    close(model.net.level, torch.full((2,), 6.0))
    close(D, (x - (1 - bar) ** 0.5 * 0.5 * x) / bar**0.5, 1e-6)


def test_sampler_is_ddims_with_the_noise_of_the_level_below() -> None:
    recipe = Recipe(steps=20, first=1e-2, last=0.3, theta_0=0.5, eta=1.0)
    process, x = recipe.process(), normal(4, 2)
    got, _ = recipe.sampler().step(Shrink(process, 0.3), x, 0.6, 0.4, None, Noise(1))
    bar_t, bar_s = (Table.linear(20, 1e-2, 0.3).alpha_bars[n - 1] for n in (12, 8))
    D = 0.3 * x
    eps = (x - bar_t**0.5 * D) / (1 - bar_t) ** 0.5
    s2 = (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
    k = (1 - bar_s) / (bar_s * 0.25)  # kb_s; theta_s = sqrt(bar_s) theta_0
    centred = bar_s**0.5 * 0.5 * (Noise(1).gamma(torch.full_like(x, k)) - k)
    close(got, bar_s**0.5 * D + (1 - bar_s - s2) ** 0.5 * eps + s2**0.5 * centred / (1 - bar_s) ** 0.5, 1e-9)
    assert isinstance(Recipe().sampler(), DDIM) and Recipe().sampler().eta == 0.0
    times = Recipe().times(10)
    assert len(times) == 11 and times[-1] == 0.0 and all(a > b for a, b in pairwise(times))
    drawn = sample(Shrink(process, 0.3), recipe.sampler(), shape=(2, 3), times=(1.0, 0.5, 0.0), noise=Noise(0))
    assert bool(torch.isfinite(drawn).all())


def test_training_moves_every_weight() -> None:
    torch.manual_seed(0)
    recipe = Recipe(steps=20, first=1e-2, last=0.3, theta_0=0.2, **SMALL)
    objective = recipe.objective(recipe.model())
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    x0 = torch.full((16, 1, 4, 4), 0.5)
    first = float(objective(x0, None, Noise(99)).mean().detach())
    for step in range(60):
        optimizer.zero_grad()
        objective(x0, None, Noise(step)).mean().backward()
        optimizer.step()
    assert all(float(p.grad.abs().sum()) > 0 for p in objective.parameters())
    assert float(objective(x0, None, Noise(99)).mean().detach()) < 0.6 * first
