"""Optimal reverse variances: exact chains where they are right, the moments and their clips, the second networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import (  # fmt: skip
    PROCESSES,
    close,
    diagonal_world,
    full_world,
    law_of_marginal,
    mixture_world,
    moments,
    normal,
    tensor,
)

from sfumato import GaussianWorld, Noise, grids
from sfumato.denoisers import AnalyticDPM, JacobianVariance, MeanOnly, OptimalCovariance, analytic
from sfumato.estimate import Estimate
from sfumato.processes import LinearBeta, Rectified, Table
from sfumato.processes.variances import known
from sfumato.samplers import Ancestral
from sfumato.training import NoiseMoment

INF = math.inf


def round_world(c: float = 0.37) -> GaussianWorld:
    """N(m, c I): one variance for every element, which is what Analytic-DPM estimates."""
    return GaussianWorld(tensor(0.3, -0.8, 1.2), c * torch.eye(3, dtype=torch.float64))


def exact(process: Any, world: GaussianWorld, times: tuple[float, ...], **options: float) -> AnalyticDPM:
    """With the moments of the world in closed form: G = E |eps_hat|^2 / d = sigma^2 / (alpha^2 c + sigma^2)."""
    c = float(world.covs[0, 0, 0])
    G = [process.sigma(t) ** 2 / (process.alpha(t) ** 2 * c + process.sigma(t) ** 2) for t in times]
    return AnalyticDPM(MeanOnly(world.denoiser(process)), times, G, **{"low": -INF, "high": INF, **options})


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("process", [LinearBeta(), PROCESSES["EDM"], Table.linear()], ids=lambda p: type(p).__name__)
def test_any_number_of_steps_and_any_eta_is_exact(process: Any, eta: float) -> None:
    """Five steps down to a level with noise, from the exact marginal: the card's test, and the trap of the bracket."""
    world, times = round_world(), (0.9, 0.7, 0.5, 0.3, 0.2, 0.1)
    D = exact(process, world, times[::-1])
    mean, std = law_of_marginal(world, process, 0.9)
    found = moments(D, Ancestral(analytic(0.0, eta=eta)), times, mean, std)
    truth = law_of_marginal(world, process, 0.1)
    close(found[0], truth[0], 1e-10)
    close(found[1], truth[1] ** 2, 1e-10)
    # With the mean alone the variance comes out too small.
    wrong = moments(MeanOnly(D), Ancestral(), times, mean, std)
    assert bool((wrong[1] < 0.95 * truth[1] ** 2).all())


def test_moments_are_estimated_on_data() -> None:
    process, world, times = LinearBeta(), round_world(), (0.1, 0.4, 0.8)
    D = AnalyticDPM.estimate(
        world.denoiser(process), world.sample(30_000, Noise(0)).split(10_000), times, Noise(1), low=-INF, high=INF
    )
    truth = exact(process, world, times)
    # G is a mean of 90,000 squares: relative standard error sqrt(2 / 90000) = 0.0047.
    assert float((D.moments / truth.moments - 1).abs().max()) < 0.019
    assert all(0 < G < 1 for G in D.moments.tolist())
    # The variance is that of x_0 given x_t.
    for t in times:
        close(truth.variance(t), world.denoiser(process)(normal(1, 3), t).var[0, 0], 1e-12)
        # Var = (sigma / alpha)^2 (1 - G): the error of G counts for the more the more noise there is.
        ratio = (process.sigma(t) / process.alpha(t)) ** 2
        assert abs(float(D.variance(t) - truth.variance(t))) < 0.019 * ratio
    with pytest.raises(ValueError, match="got no batch"):
        AnalyticDPM.estimate(world.denoiser(process), [], times, Noise(1))


def test_estimate_of_a_mixture_is_the_mean_of_its_variances() -> None:
    process, world = LinearBeta(), mixture_world()
    x0, t = world.sample(40_000, Noise(0)), 0.3
    D = AnalyticDPM.estimate(world.denoiser(process), [x0], (t,), Noise(1), low=-INF, high=INF)
    xt = process.marginal(x0, t).sample(Noise(2))
    assert float(D.variance(t)) == pytest.approx(float(world.denoiser(process)(xt, t).var.mean()), rel=0.05)


def test_the_clip_and_the_table_between_and_outside_its_times() -> None:
    process, inner = LinearBeta(), full_world().denoiser(LinearBeta())
    D = AnalyticDPM(inner, (0.2, 0.6), (0.5, 1.5), low=-INF, high=INF)
    ratio = lambda t: (process.sigma(t) / process.alpha(t)) ** 2  # noqa: E731
    close(D.variance(0.2), 0.5 * ratio(0.2))
    close(D.variance(0.3), 0.25 * ratio(0.3))
    close(D.variance(0.1), 0.5 * ratio(0.1))
    assert float(D.variance(0.6)) == float(D.variance(0.9)) == 0.0  # a model's G may exceed 1
    bounded = AnalyticDPM(inner, (0.2, 0.6), (0.5, 0.9), low=-0.1, high=0.3)
    assert bounded.bound == pytest.approx(0.04) and float(bounded.variance(0.6)) == pytest.approx(0.04)
    assert AnalyticDPM(inner, (0.2,), (0.5,)).bound == 1.0
    t = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    close(D.variance(t), torch.stack([D.variance(v) for v in t.tolist()]))
    out = D(normal(3, 3), t)
    close(out.var, D.variance(t)[:, None].expand(3, 3))
    close(out.mean, inner(normal(3, 3), t).mean)
    flat = Rectified()
    ended = AnalyticDPM(full_world().denoiser(flat), (0.5,), (0.5,))
    assert float(ended.variance(1.0)) == 1.0


def test_times_and_moments_must_fit() -> None:
    inner = full_world().denoiser(LinearBeta())
    for times, G in (((), ()), ((0.1, 0.1), (1, 1)), ((0.0, 0.1), (1, 1)), ((0.1, 0.2), (1,))):
        with pytest.raises(ValueError, match="give times that rise, above 0, and a moment for each"):
            AnalyticDPM(inner, times, G)


def test_the_end_is_quiet() -> None:
    process, xt = LinearBeta(), normal(2, 3)
    estimate = Estimate(torch.zeros(2, 3, dtype=torch.float64), torch.full((2, 3), 0.5, dtype=torch.float64))
    reverse, free = analytic(0.1), known
    close(reverse(process, estimate, xt, 0.5, 0.2).std, free(process, estimate, xt, 0.5, 0.2).std)
    law = reverse(process, estimate, xt, 0.2, 0.1)
    # E |std z| = std sqrt(2 / pi) = 2 / 255.
    close(law.std * math.sqrt(2 / math.pi), torch.full((2, 3), 2 / 255, dtype=torch.float64))
    close(analytic(0.1, fluctuation=2.0)(process, estimate, xt, 0.2, 0.1).std, 2 * law.std)
    close(law.mean, free(process, estimate, xt, 0.2, 0.1).mean)
    last = reverse(process, estimate, xt, 0.1, 0.0)
    assert last.std == 0.0
    close(last.mean, free(process, estimate, xt, 0.1, 0.0).mean)
    tiny = Estimate(estimate.mean)
    close(reverse(process, tiny, xt, 1e-5, 1e-6).std, free(process, tiny, xt, 1e-5, 1e-6).std)
    close(analytic(0.0, eta=0.0)(process, tiny, xt, 0.5, 0.2).mean, process.reverse(tiny, xt, 0.5, 0.2, 0.0).mean)


@pytest.mark.parametrize("name", ["LinearBeta", "EDM", "Rectified", "Anchored.scaled"])
def test_the_jacobian_gives_the_exact_variances(name: str) -> None:
    process = PROCESSES[name]
    for world in (full_world(), mixture_world(), diagonal_world()):
        D, x = world.denoiser(process), normal(4, 3)
        found = JacobianVariance(MeanOnly(D))(x, 0.4)
        close(found.var, D(x, 0.4).var, 1e-10)
        close(found.mean, D(x, 0.4).mean)
    assert not found.var.requires_grad


class Moment(nn.Module):
    """Elementwise polynomial of second degree in the input, its coefficients free for each element."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.zeros(3, 3, dtype=torch.float64))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        return self.c[0] + self.c[1] * u + self.c[2] * u.square()


@pytest.mark.parametrize("residual", [True, False])
def test_the_second_network_learns_the_exact_variance(residual: bool) -> None:
    """Independent normals: E[eps^2 | x_t] is a quadratic of each element, E[(eps - eps_hat)^2 | x_t] a constant."""
    process = LinearBeta()
    world = GaussianWorld(tensor(0.3, -0.8, 1.2), torch.diag(tensor(0.25, 1.6, 0.8)))
    exact = world.denoiser(process)
    D = OptimalCovariance(MeanOnly(exact), Moment(), residual=residual)
    at = 0.3
    loss = NoiseMoment(D, lambda process, batch, noise: torch.full((batch,), at, dtype=torch.float64))
    optimizer = torch.optim.LBFGS(D.net.parameters(), lr=1.0, max_iter=60, line_search_fn="strong_wolfe")
    x0 = world.sample(60_000, Noise(0))

    def value() -> Tensor:
        optimizer.zero_grad()
        total = loss(x0, None, Noise(1)).mean()
        total.backward()
        return total

    optimizer.step(value)
    x = process.marginal(world.sample(200, Noise(2)), at).sample(Noise(3))
    assert float((D(x, at).var / exact(x, at).var - 1).abs().mean()) < 0.08
    close(D(x, at).mean, exact(x, at).mean)


def test_the_second_network_is_held_above_nothing_and_the_mean_is_frozen() -> None:
    process = LinearBeta()
    inner = full_world().denoiser(process)
    D = OptimalCovariance(inner, Moment())
    with torch.no_grad():
        D.net.c[0] = -1.0
    assert float(D(normal(2, 3), 0.3).var.max()) == 0.0
    with torch.no_grad():
        D.net.c[0] = 2.0
    ratio = (process.sigma(0.3) / process.alpha(0.3)) ** 2
    close(D(normal(2, 3), 0.3).var, torch.full((2, 3), 2 * ratio, dtype=torch.float64))
    from sfumato.training import Uniform

    assert NoiseMoment(D).times == Uniform()


def test_sampling_with_estimated_variances_beats_the_mean_alone() -> None:
    process, world = LinearBeta(), round_world()
    grid = grids.uniform(6, start=0.9, end=0.1)
    D = AnalyticDPM.estimate(world.denoiser(process), [world.sample(20_000, Noise(0))], grid[::-1], Noise(1), low=-INF, high=INF)  # fmt: skip # noqa: E501
    mean, std = law_of_marginal(world, process, 0.9)
    _, found = moments(D, Ancestral(), grid, mean, std)
    _, poor = moments(MeanOnly(D), Ancestral(), grid, mean, std)
    truth = law_of_marginal(world, process, 0.1)[1] ** 2
    assert float((found / truth - 1).abs().max()) < 0.05 < float((poor / truth - 1).abs().min())
