"""Score SDE: its predictors by their formulas, its order of moves, its grids, its loss at the optimum."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, full_world, moments, normal, tensor

from sfumato import GaussianWorld, Measurement, Noise, grids, sample
from sfumato.denoisers import Counted
from sfumato.operators import Mask
from sfumato.processes import Geometric, LinearBeta, SubVP, Table
from sfumato.processes.variances import large, small
from sfumato.recipes.score_sde import Recipe
from sfumato.samplers import (
    Ancestral,
    Chain,
    EulerMaruyama,
    ReverseDiffusion,
    SNRLangevin,
    trajectory,
)

V = 0.25


def narrow() -> GaussianWorld:
    return GaussianWorld(tensor(0.0), torch.full((1, 1), V, dtype=torch.float64))


def test_wide_ancestral_on_a_table_is_the_papers_vp_predictor() -> None:
    """(x + beta score) / sqrt(1 - beta) + sqrt(beta) z; the variance is beta, not btilde."""
    process, x, n = Table.linear(), normal(4, 3), 400
    world = full_world()
    beta, bar = 1e-4 + (0.02 - 1e-4) * (n - 1) / 999, process.alpha_bars[n - 1]
    score = world.marginal(process, n / 1000).score(x)
    out, memory = Ancestral(large).step(world.denoiser(process), x, n / 1000, (n - 1) / 1000, "kept", Noise(2))
    close(out, (x + beta * score) / math.sqrt(1 - beta) + math.sqrt(beta) * Noise(2).normal(x), 1e-9)
    assert memory == "kept" and bar < 1
    for t, s in ((0.001, 0.0), (0.4, 0.4)):
        a, b = (Ancestral(large).step(world.denoiser(process), x, t, s, None, Noise(k))[0] for k in (0, 1))
        close(a, b)


def test_ancestral_is_the_papers_ve_predictor() -> None:
    process, x, world = Geometric(0.01, 50.0), normal(4, 3), full_world()
    t, s = 0.5, 0.45
    now, then = process.sigma(t) ** 2, process.sigma(s) ** 2
    expected = x + (now - then) * world.marginal(process, t).score(x)
    expected = expected + math.sqrt(then * (now - then) / now) * Noise(1).normal(x)
    close(Ancestral(small).step(world.denoiser(process), x, t, s, None, Noise(1))[0], expected, 1e-10)


def test_error_of_the_wide_ancestral_predictor() -> None:
    """On N(0, 0.25) and beta_n = beta(n / N) / N the recursion V <- ((1 - beta / S) / sqrt(1 - beta))^2 V + beta, S the
    variance of x_n, the last step noiseless; off by 7.5e-4 at N = 1000, as on the card, and first order."""
    errors = []
    for N in (100, 500, 1000):
        betas = [(0.1 + 19.9 * n / N) / N for n in range(1, N + 1)]
        process = Table.from_betas(betas)
        start = process.alpha_bars[-1] * V + 1 - process.alpha_bars[-1]
        var = start
        for n in range(N, 0, -1):
            beta, bar = betas[n - 1], process.alpha_bars[n - 1]
            var = ((1 - beta / (bar * V + 1 - bar)) / math.sqrt(1 - beta)) ** 2 * var + beta * (n > 1)
        errors.append(var - V)
        if N > 100:
            continue
        _, got = moments(narrow().denoiser(process), Ancestral(large), grids.uniform(N), tensor(0.0), math.sqrt(start))
        close(got, var, 1e-9)
    assert errors[2] == pytest.approx(7.5e-4, rel=0.05)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1.0, abs=0.1)


def test_the_public_codes_order_is_a_grid_with_its_first_time_twice() -> None:
    """Corrector, then predictor, at each level; at the last level a corrector and then the denoised mean."""
    recipe = Recipe(sigma_min=0.1, sigma_max=10.0, steps=5, snr=0.2, moves=2)
    D, x = full_world().denoiser(recipe.process()), 10.0 * normal(4, 3)
    times = recipe.times()
    got = sample(D, recipe.sampler(), x1=x, times=(1.0, *times), noise=Skipping(7, {0}), denoise=True)
    stream, z = Noise(7), x
    corrector, predictor = SNRLangevin(0.2, 2), ReverseDiffusion()
    for t, s in pairwise(times):
        z, _ = corrector.step(D, z, t, t, None, stream)
        z, _ = predictor.step(D, z, t, s, None, stream)
    z, _ = corrector.step(D, z, 0.0, 0.0, None, stream)
    close(got, D(z, 0.0).mean, 1e-10)
    # and without it, the algorithm of the paper: predictor first
    got = sample(D, recipe.sampler(), x1=x, times=times, noise=Noise(7))
    close(got, sample(D, Chain(predictor, corrector), x1=x, times=times, noise=Noise(7)))


class Skipping(Noise):
    """A stream that gives zeros at the draws named, without moving on: those of a step that stands still."""

    def __init__(self, seed: int, still: set[int]) -> None:
        super().__init__(seed)
        self.still, self.draws = still, -1

    def normal(self, like: Tensor) -> Tensor:
        self.draws += 1
        return torch.zeros_like(like) if self.draws in self.still else super().normal(like)


def test_grids() -> None:
    """VE: N levels of the geometric ladder; VP: N steps of 1e-3 to t = 1e-3, the last one to 0, at N = 1000."""
    ve = Recipe()
    levels = [ve.process().sigma(t) for t in ve.times()]
    assert len(levels) == 1000 and (levels[0], levels[-1]) == pytest.approx((50.0, 0.01))
    assert {round(a / b, 10) for a, b in pairwise(levels)} == {round(5000 ** (1 / 999), 10)}
    for recipe in (Recipe.vp(), Recipe.sub_vp()):
        assert len(recipe.times()) == 1001
        assert recipe.times() == pytest.approx(grids.uniform(1000), abs=1e-12)
    assert Recipe(kind="vp", steps=4).times() == pytest.approx((1.0, 0.667, 0.334, 0.001, 0.0))


def test_parts_follow_the_kind() -> None:
    assert Recipe().process() == Geometric(0.01, 50.0)
    assert Recipe(sigma_min=0.02, sigma_max=90.0).process() == Geometric(0.02, 90.0)
    assert Recipe.vp().process() == LinearBeta(0.1, 20.0)
    assert type(Recipe(kind="sub-vp", beta_min=0.2, beta_max=10.0).process()) is SubVP
    assert Recipe(kind="sub-vp", beta_min=0.2, beta_max=10.0).process().integral(1.0) == pytest.approx(5.1)
    assert Recipe().sampler() == Chain(ReverseDiffusion(), SNRLangevin(0.16, 1))
    assert Recipe.vp().sampler() == EulerMaruyama() == Recipe.sub_vp().sampler()
    assert Recipe.sub_vp().kind == "sub-vp"
    assert Recipe(predictor="ancestral", snr=0.1, moves=3).sampler() == Chain(Ancestral(small), SNRLangevin(0.1, 3))
    assert Recipe(kind="vp", predictor="ancestral", snr=0.0).sampler() == Ancestral(large)
    assert Recipe(predictor="euler-maruyama", snr=0.0).sampler() == EulerMaruyama()


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="kind is 've', 'vp' or 'sub-vp', got 'vpp'"):
        Recipe(kind="vpp")
    with pytest.raises(ValueError, match=r"predictor is .* got 'heun'"):
        Recipe(predictor="heun")
    with pytest.raises(ValueError, match="ancestral sampling is not defined for sub-vp"):
        Recipe(kind="sub-vp", predictor="ancestral")


def test_conditioned_overwrites_after_every_move() -> None:
    """Independent elements: the seen one ends at y, the others run as without it, at the same number of calls."""
    seen, y = tensor(1.0, 0.0, 0.0), tensor(0.8, 0.0, 0.0)
    m = Measurement(Mask(seen.bool()), y.expand(4, 3), 0.0)
    world = GaussianWorld(tensor(0.3, -0.8, 1.2), torch.diag(tensor(0.25, 1.6, 0.4)))
    for recipe, calls in ((Recipe(kind="vp", moves=2, steps=6), 6 + 5 * 2), (Recipe(kind="vp", snr=0.0, steps=6), 6)):
        D = Counted(world.denoiser(recipe.process()))
        states = list(trajectory(D, recipe.conditioned(m), normal(4, 3), recipe.times(), Noise(0)))
        assert D.calls == calls
        close(states[-1].x[:, 0], 0.8)
    ve = Recipe(steps=4, moves=1)
    drawn = []

    class Kept(Noise):
        def normal(self, like: Tensor) -> Tensor:
            drawn.append(super().normal(like))
            return drawn[-1]

    x = sample(world.denoiser(ve.process()), ve.conditioned(m), x1=normal(4, 3), times=ve.times(), noise=Kept(0))
    # four draws a step: predictor, its overwrite, corrector, its overwrite; the last says what the seen part is
    assert len(drawn) == 4 * 3
    close(x[:, 0], 0.8 + 0.01 * drawn[-1][:, 0])


@pytest.mark.parametrize("recipe", [Recipe(widths=(8,), blocks=1), Recipe(kind="vp", widths=(8,), blocks=1)])
def test_the_network_is_read_in_the_papers_way(recipe: Recipe) -> None:
    """VE: score = F / sigma on the bare x_t; VP: score = -F / sigma."""
    denoiser = recipe.model().double()
    process, x, t = recipe.process(), normal(2, 3, 8, 8), 0.3

    class Probe(torch.nn.Module):
        def forward(self, u, level, cond):
            close(u, x)
            return u.tanh()

    denoiser.net = Probe()
    sign = 1.0 if recipe.kind == "ve" else -1.0
    close(process.score(x, denoiser(x, t).mean, t), sign * x.tanh() / process.sigma(t), 1e-9)


def test_loss_of_the_exact_score() -> None:
    """E |sigma score + eps|^2 = v / (v + sigma^2) under VE, the mean over t uniform: its integral in closed form."""
    recipe, n = Recipe(sigma_min=0.1, sigma_max=10.0), 40000
    objective = recipe.objective(narrow().denoiser(recipe.process()))
    loss = objective(narrow().sample(n, Noise(0)), None, Noise(1))
    rate = 2 * math.log(100.0)
    # with u = sigma^2, dt = du / (rate u): the integral of v / ((v + u) u) is log(u / (v + u))
    exact = (math.log(100.0 / (V + 100.0)) - math.log(0.01 / (V + 0.01))) / rate
    assert float(loss.mean()) == pytest.approx(exact, abs=4 * float(loss.std()) / math.sqrt(n))
