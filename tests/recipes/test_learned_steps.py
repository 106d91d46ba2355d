"""Learned steps: the optimum by brute force, costs that are the KL of laws, the ELBO of a Gaussian world."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from worlds_for_tests import close, normal, tensor

from sfumato import GaussianWorld, Noise, grids
from sfumato.denoisers import Counted, Estimate
from sfumato.processes import Geometric, LinearBeta
from sfumato.recipes.learned_steps import Recipe, elbo_costs, errors, shortest
from sfumato.samplers import Ancestral

VAR = tensor(0.25, 1.5)
WORLD = GaussianWorld(tensor(0.3, -0.8), torch.diag(VAR))


def mmse(process, times) -> torch.Tensor:
    """sum_i c_i sigma^2 / (alpha^2 c_i + sigma^2)."""
    level = tensor(*(math.exp(-process.log_snr(t)) for t in times))[:, None]
    return (VAR * level / (VAR + level)).sum(1)


@pytest.mark.parametrize("steps", range(1, 9))
def test_the_path_is_the_best_of_all(steps: int) -> None:
    costs = normal(9, 9, seed=steps).square()
    costs = costs.masked_fill(torch.ones(9, 9).tril().bool(), math.inf)
    path, cost = shortest(costs, steps)
    every = {
        (0, *inner, 8): sum(float(costs[i, j]) for i, j in pairwise((0, *inner, 8)))
        for inner in combinations(range(1, 8), steps - 1)
    }
    assert path == min(every, key=every.__getitem__) and cost == pytest.approx(min(every.values()), rel=1e-12)


@pytest.mark.parametrize("steps", [0, 9])
def test_paths_longer_than_the_grid_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"paths of 1 to 8, got {steps}"):
        shortest(torch.zeros(9, 9), steps)


def test_a_cost_is_the_kl_of_the_steps_laws() -> None:
    """KL(q(x_s | x_t, x_0) | p(x_s | x_t)) for the small variance, in the mean over data and noise."""
    process, (t, s) = LinearBeta(), (0.6, 0.35)
    x0, D = WORLD.sample(400, Noise(0)), WORLD.denoiser(process)
    xt = process.marginal(x0, t).sample(Noise(1))
    mean = D(xt, t).mean
    kl = process.reverse(Estimate(x0), xt, t, s).kl(process.reverse(Estimate(mean), xt, t, s)).mean()
    mse = (x0 - mean).square().sum(1).mean()
    costs = elbo_costs(process, (0.0, s, t), torch.stack([mse, mse]), 2)
    close(costs[1, 2], kl, 1e-10)
    decoder = process.reverse(Estimate(mean), xt, t, 1e-9).mean  # the estimate itself
    density = torch.distributions.Normal(decoder, process.sigma(t) / process.alpha(t)).log_prob(x0).sum(1).mean()
    close(costs[0, 2], -density, 1e-5)
    assert torch.isinf(costs[2, 1]) and torch.isinf(costs[1, 1]) and torch.isinf(costs[:, 0]).all()


def test_data_with_noise_at_the_clean_end_have_no_decoder() -> None:
    process = Geometric(0.1, 10.0)
    times = (0.0, 0.5, 1.0)
    costs = elbo_costs(process, times, tensor(0.3, 0.7), 2)
    close(costs[0, 1], 0.5 * (100.0 - 1.0) * 0.3)
    close(costs[0, 2], 0.5 * (100.0 - 0.01) * 0.7)


def test_errors_are_those_of_theory() -> None:
    process, times = LinearBeta(), (0.2, 0.5, 0.9)
    n, denoiser = 4000, Counted(WORLD.denoiser(LinearBeta()))
    got = errors(denoiser, WORLD.sample(n, Noise(0)), times, Noise(1))
    assert denoiser.calls == 3
    # each squared error is a sum of squares of normals: its deviation is at most sqrt(2) of its mean
    exact = mmse(process, times)
    assert bool(((got - exact).abs() < 4 * math.sqrt(2 / n) * exact).all())


def test_longer_paths_have_a_better_bound_and_all_steps_the_full_one() -> None:
    """Exact D, whose errors rise with t: the optimum falls in K where sigma(0) > 0; with a decoder it is at least the
    entropy, -E log p(x_0), and all steps give the whole grid's sum."""
    process, times = Geometric(0.1, 10.0), grids.uniform(12)[::-1]
    costs = elbo_costs(process, times, mmse(process, times[1:]), 2)
    assert all(shortest(costs, k + 1)[1] < shortest(costs, k)[1] for k in range(1, 12))
    process = LinearBeta()
    costs = elbo_costs(process, times, mmse(process, times[1:]), 2)
    best = [shortest(costs, k)[1] for k in range(1, 13)]
    assert best[-1] == pytest.approx(sum(float(costs[i, i + 1]) for i in range(12)))
    entropy = 0.5 * float((VAR * 2 * math.pi * math.e).log().sum())
    # the prior's term of the bound, with the mean of the data
    alpha2, sigma2 = process.alpha(1.0) ** 2, process.sigma(1.0) ** 2
    prior = 0.5 * float((alpha2 * (VAR + tensor(0.09, 0.64)) + sigma2 - 1 - math.log(sigma2)).sum())
    assert min(best) + prior > entropy


def test_the_recipe_finds_the_grid() -> None:
    """Few fine steps, so that every grid can be tried, at the theoretical errors' costs up to their noise."""
    process = LinearBeta()
    recipe = Recipe(steps=3, fine=8)
    data = WORLD.sample(3000, Noise(0))
    times = recipe.times(WORLD.denoiser(process), data, Noise(1))
    assert len(times) == 4 and times[0] == 1.0 and times[-1] == 0.0
    grid = grids.uniform(8)[::-1]
    costs = elbo_costs(process, grid, mmse(process, grid[1:]), 2)
    path, _ = shortest(costs, 3)
    assert times == pytest.approx(tuple(grid[i] for i in reversed(path)))
    assert recipe.sampler() == Ancestral() and (Recipe().steps, Recipe().fine) == (32, 1000)
