"""Bounds against the truth: closed-form gaps on normals, equality with the exact law, two estimators of one number."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from worlds_for_tests import PROCESSES, close, diagonal_world, full_world, mixture_world, normal, tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.likelihood import (
    categorical,
    continuous_elbo,
    density,
    elbo,
    explicit,
    implicit,
    log_snr_rate,
    rescaled,
)
from sfumato.noise import Noise, Seeds
from sfumato.processes import EDM, LinearBeta, Rectified, Table
from sfumato.processes.variances import known, large, learned, small
from sfumato.worlds import GaussianWorld


def scalar_world(c: float, mean: float = 0.0) -> GaussianWorld:
    return GaussianWorld(tensor(mean), tensor(c).reshape(1, 1))


def prior_gap(c: float, process, t: float = 1.0) -> float:
    """KL(p_1 | N(0, 1)) for centred data of variance c."""
    v = process.alpha(t) ** 2 * c + process.sigma(t) ** 2
    return 0.5 * (v - 1 - math.log(v))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_optimal_variance_leaves_the_prior_alone_for_any_number_of_steps(steps: int) -> None:
    """E[bound] = H(x_0) + KL(p_1 | prior) where the reverse chain is exact: the mean over 20 000 draws, within 4 SE."""
    process, c = LinearBeta(0.1, 2.0), 0.37  # ends early, so that the gap is large
    world = scalar_world(c)
    x0 = world.sample(20_000, Noise(1))
    got = elbo(world.denoiser(process), x0, grids.uniform(steps), Noise(2), reverse=known, decoder=density).total
    # Of each row the bound is -log p(x_0) + noise + the mismatch seen from x_0.
    gap = got + world.log_prob(x0)
    assert abs(float(gap.mean()) - prior_gap(c, process)) < 4 * float(gap.std()) / math.sqrt(len(gap))
    assert prior_gap(c, process) > 0.004


def exact_gap(c: float, process, times, reverse: str) -> float:
    """E[bound] - H(x_0) on N(0, c): sum over steps of E KL(p(x_s | x_t) | chain), both normal, and the prior's KL.

    The exact reverse law of the data has the exact mean; its variance v* is that of p(x_s | x_t). Same means: KL is
    0.5 (r - 1 - log r), r = v* / v. The last step uses btilde of the step before ("small").
    """
    a = [process.alpha(t) for t in times]
    s2 = [process.sigma(t) ** 2 for t in times]
    V = [x * x * c + y for x, y in zip(a, s2)]
    total = 0.5 * (V[0] - 1 - math.log(V[0]))
    floor = 0.0
    for i in range(len(times) - 1):
        k = a[i] / a[i + 1]
        beta = s2[i] - k * k * s2[i + 1]
        btilde = beta * s2[i + 1] / s2[i]
        star = V[i + 1] - (k * V[i + 1]) ** 2 / V[i]
        if i == len(times) - 2:
            btilde = floor
        v = {"small": btilde, "large": beta, "half": math.sqrt(beta * btilde)}[reverse]
        total += 0.5 * (star / v - 1 - math.log(star / v))
        floor = btilde
    return total


class WithV(Denoiser):
    def __init__(self, inner, v: float) -> None:
        super().__init__()
        self.inner, self.process, self.v = inner, inner.process, v

    def forward(self, xt, t, cond=None):
        return Estimate(self.inner(xt, t).mean, aux={"v": torch.full_like(xt, self.v)})


@pytest.mark.parametrize(("name", "reverse", "v"), [("small", small, 0), ("large", large, 0), ("half", learned, 0.5)])
def test_the_gap_of_a_chain_on_a_normal(name: str, reverse, v: float) -> None:
    process, c, times = Table.linear(20, 0.005, 0.5), 0.37, tuple(n / 20 for n in range(20, -1, -2))
    world = scalar_world(c)
    x0 = world.sample(40_000, Noise(3))
    got = elbo(WithV(world.denoiser(process), v), x0, times, Noise(4), reverse=reverse, decoder=density)
    gap = got.total + world.log_prob(x0)
    assert abs(float(gap.mean()) - exact_gap(c, process, times, name)) < 4 * float(gap.std()) / 200
    assert got.steps.shape == (40_000, 9)


@pytest.mark.parametrize(("steps", "gap"), [(20, 1.339), (40, 0.577), (80, 0.269)])
def test_the_gap_with_the_small_variance_falls_as_one_over_n(steps: int, gap: float) -> None:
    """N(0, 0.37), sigma / alpha on a log grid from 20 to 0.02, x_0 read from the last: nats as on the card."""
    ratios = [0.02 * 1000 ** (i / (steps - 1)) for i in range(steps)]
    process, world = Table(tuple(1 / (1 + r * r) for r in ratios)), scalar_world(0.37)
    x0 = world.sample(8000, Noise(1))
    times = tuple(n / steps for n in range(steps, 0, -1))
    got = elbo(world.denoiser(process), x0, times, Noise(2), decoder=density).total + world.log_prob(x0)
    assert abs(float(got.mean()) - gap) < 4 * float(got.std()) / math.sqrt(8000)


def test_terms_are_those_of_the_paper() -> None:
    """With "small", L_{n-1} = 0.5 (SNR(n-1) / SNR(n) - 1) |eps - eps_hat|^2; with "large" the weight is
    beta^2 / (2 s^2 (1 - beta) (1 - abar)) plus the KL of the variances. Prior: KL(q(x_N | x_0) | N(0, I)).
    """
    process = Table.linear(10, 0.01, 0.4)
    bars = (1.0, *process.alpha_bars)
    world, x0 = full_world(), normal(3, 3)
    D = world.denoiser(process)
    times = tuple(n / 10 for n in range(10, -1, -1))
    low, high = (elbo(D, x0, times, Seeds([5, 6, 7]), reverse=law, decoder=density).steps for law in (small, large))
    noise = Seeds([5, 6, 7])
    for i, n in enumerate(range(10, 1, -1)):
        eps = noise.normal(x0)
        xt = math.sqrt(bars[n]) * x0 + math.sqrt(1 - bars[n]) * eps
        error = (eps - (xt - math.sqrt(bars[n]) * D(xt, n / 10).mean) / math.sqrt(1 - bars[n])).square().sum(1)
        snr, before = bars[n] / (1 - bars[n]), bars[n - 1] / (1 - bars[n - 1])
        close(low[:, i], 0.5 * (before / snr - 1) * error, 1e-10)
        beta = 1 - bars[n] / bars[n - 1]
        r = (1 - bars[n - 1]) / (1 - bars[n])  # btilde / beta
        weight = beta**2 / (2 * beta * (1 - beta) * (1 - bars[n]))
        close(high[:, i], weight * error + 1.5 * (r - 1 - math.log(r)), 1e-10)
    prior = elbo(D, x0, times, Noise(0), decoder=density).prior
    close(prior, 0.5 * (bars[10] * x0**2 - bars[10] - math.log(1 - bars[10])).sum(1), 1e-12)


def test_total_and_bits() -> None:
    world = full_world()
    got = elbo(world.denoiser(LinearBeta()), normal(2, 3), grids.uniform(5), Noise(0), decoder=density)
    close(got.total, got.prior + got.steps.sum(1) + got.decoder)
    close(got.bits(3), got.total / 3 / math.log(2))


def test_one_step_without_a_variance_is_an_error() -> None:
    with pytest.raises(ValueError, match="std > 0"):
        elbo(full_world().denoiser(LinearBeta()), normal(2, 3), (1.0, 0.0), Noise(0), decoder=density)


def test_a_process_that_ends_in_noise_is_decoded_from_there() -> None:
    """EDM: every step is a KL, and x_0 is read from N(D, sigma(0)^2); the bound is the entropy and a small gap."""
    process, world = EDM(0.05, 80.0), scalar_world(0.5, 0.3)
    x0 = world.sample(20_000, Noise(1))
    times = grids.uniform(30)
    got = elbo(world.denoiser(process), x0, times, Noise(2), reverse=known, decoder=density)
    assert got.steps.shape[1] == 30
    c, s2 = 0.5, 0.05**2
    star = c * s2 / (c + s2)
    start = 0.5 * ((c + 0.09) / 80**2 - math.log(1 + c / 80**2))  # KL(N(0.3, c + 80^2) | N(0, 80^2))
    want = 0.5 * (star / s2 - 1 - math.log(star / s2)) + start
    gap = got.total + world.log_prob(x0)
    assert abs(float(gap.mean()) - want) < 4 * float(gap.std()) / math.sqrt(20_000)


@pytest.mark.parametrize("name", ["LinearBeta", "Cosine", "Rectified", "EDM", "Anchored.scaled"])
@pytest.mark.parametrize("integrand", [explicit, implicit])
def test_the_bound_of_continuous_time_is_tight_for_the_exact_denoiser(name: str, integrand) -> None:
    """E[bound] - H(x_0) = KL(p_1 | prior) + E KL of the readout, which the last noise makes small; any process."""
    process, world = PROCESSES[name], full_world()
    x0 = world.sample(1500, Noise(1))
    end = 0.02 if name != "EDM" else 0.1
    got = continuous_elbo(world.denoiser(process), x0, Noise(2), points=16, end=end, integrand=integrand)
    # p_1 against the prior and p(x_0 | x_end) against N(D, sigma^2 / alpha^2): normals, by their formula.
    p1, prior = world.marginal(process, 1.0), process.prior(x0[:1])
    S0 = torch.diag(torch.as_tensor(prior.std, dtype=torch.float64).expand(1, 3)[0] ** 2)
    d = (p1.mean - prior.mean[0]).reshape(3)
    k = torch.linalg.solve(S0, p1.cov)
    want = 0.5 * (k.trace() + d @ torch.linalg.solve(S0, d) - 3 - torch.logdet(k))
    cov = world.covariance(x0[:1], end, process)[0]
    ratio = (torch.as_tensor(process.sigma(end)) / process.alpha(end)).double().reshape(-1).expand(3)
    k = cov / (ratio[:, None] ** 2)
    want = want + 0.5 * (k.trace() - 3 - torch.logdet(k))
    gap = got.total + world.log_prob(x0)
    assert abs(float(gap.mean() - want)) < 4 * float(gap.std()) / math.sqrt(1500) + 1e-6
    assert 4 * float(gap.std()) / math.sqrt(1500) < 1.0


def test_the_published_bound_of_one_point() -> None:
    """VP, N(0.4, 0.3), x = 0.9: bound with offset 0.73363, truth 0.73362 (the card of ScoreFlow)."""
    world, process = scalar_world(0.3, 0.4), LinearBeta()
    x0 = tensor(0.9).expand(8000, 1)
    got = continuous_elbo(world.denoiser(process), x0, Noise(0), points=30).total
    assert abs(float(got.mean()) - 0.73363) < 4 * float(got.std()) / math.sqrt(8000) < 0.11
    close(-world.log_prob(x0[:1]), 0.73362, 1e-5)


def test_the_diffusion_loss_in_closed_form() -> None:
    """L = 0.5 sum log((1 + c SNR_0) / (1 + c SNR_1)) with the exact D (the card of VDM)."""
    process, world = LinearBeta(), diagonal_world()
    x0 = world.sample(4000, Noise(1))
    got = continuous_elbo(world.denoiser(process), x0, Noise(2), end=0.1, points=16).steps.sum(1)
    high, low = (math.exp(process.log_snr(t)) for t in (0.1, 1.0))
    want = 0.5 * torch.log((1 + tensor(0.25, 1.6) * high) / (1 + tensor(0.25, 1.6) * low)).sum()
    assert abs(float(got.mean() - want)) < 4 * float(got.std()) / math.sqrt(4000)


def test_both_integrands_have_one_mean_for_a_wrong_denoiser() -> None:
    """The identity of Stein holds for any D: on a mixture with the denoiser of another world, in expectation."""
    process, world = LinearBeta(), mixture_world()
    wrong = full_world().denoiser(process)
    x0 = world.sample(6000, Noise(1))
    a, b = (
        continuous_elbo(wrong, x0, Noise(2), end=0.05, points=8, integrand=f).steps.sum(1) for f in (explicit, implicit)
    )
    assert abs(float((a - b).mean())) < 4 * float((a - b).std()) / math.sqrt(6000)
    assert float((a - b).std()) > 0.1


def test_vdm_reads_levels_from_the_noisy_data() -> None:
    """At gamma = -13.3 the 256 levels are told apart almost surely: the reconstruction costs less than 0.01 nats."""
    process = LinearBeta()
    end = process.time_of(13.3)
    x0 = ((torch.arange(256, dtype=torch.float64) + 0.5) / 128 - 1)[:, None].repeat(4, 1)
    D = scalar_world(1.0).denoiser(process)
    sharp = continuous_elbo(D, x0, Noise(0), end=end, points=1, readout=rescaled, decoder=categorical).decoder
    assert 0 <= float(sharp.mean()) < 0.01
    vague = continuous_elbo(D, x0, Noise(0), end=1.0, points=1, readout=rescaled, decoder=categorical).decoder
    assert float(vague.mean()) > math.log(256) - 1.5


def test_infinite_ends_are_cut() -> None:
    """Rectified reaches no signal at t = 1 and no noise at t = 0: the range of log SNR is [-20, 40] there."""
    world = diagonal_world()
    x0 = world.sample(3000, Noise(0))
    got = continuous_elbo(world.denoiser(Rectified()), x0, Noise(1), end=1e-30, points=60, readout=rescaled)
    want = 0.5 * torch.log1p(tensor(0.25, 1.6) * math.exp(40)).sum() - 0.5 * math.exp(-20) * 1.85
    # The event has one certain number, whose error is nothing.
    loss = got.steps.sum(1)
    assert abs(float(loss.mean() - want)) < 4 * float(loss.std()) / math.sqrt(3000)


def test_the_rate_of_log_snr_is_that_of_the_sde() -> None:
    """-lambda' = g^2 / sigma^2, and its integral is lambda(a) - lambda(b)."""
    for process in (PROCESSES[n] for n in ("LinearBeta", "Cosine", "SubVP", "Geometric", "EDM", "Rectified")):
        t = torch.linspace(0.2, 0.8, 2001, dtype=torch.float64)
        rate = torch.as_tensor(log_snr_rate(process, t))
        close(torch.trapezoid(rate, t), process.log_snr(0.2) - process.log_snr(0.8), 1e-6)
        close(log_snr_rate(process, 0.35), (process.sde(0.35)[1] / process.sigma(0.35)) ** 2, 1e-9)


def test_the_weights_of_scoreflow_are_log_snr() -> None:
    """Cumulative weights: VP log(e^B - 1), sub-VP 2 log(e^B - 1) - B, VE 2 t log ratio; Z = 23.8645 (the card)."""
    vp, sub, ve = PROCESSES["LinearBeta"], PROCESSES["SubVP"], PROCESSES["Geometric"]
    for a, b in pairwise((1e-5, 0.1, 0.6, 1.0)):
        W = [math.log(math.expm1(vp.integral(t))) for t in (a, b)]
        close(vp.log_snr(a) - vp.log_snr(b), W[1] - W[0], 1e-10)
        W = [2 * math.log(math.expm1(vp.integral(t))) - vp.integral(t) for t in (a, b)]
        close(sub.log_snr(a) - sub.log_snr(b), W[1] - W[0], 1e-10)
        close(ve.log_snr(a) - ve.log_snr(b), 2 * (b - a) * math.log(5000), 1e-10)
    close(vp.log_snr(1e-5) - vp.log_snr(1.0), 23.8645, 1e-5)
