"""Noise that is not normal: moments, the chain against its one-shot sum, the bridge against Bayes' rule."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import distributions as td
from worlds_for_tests import close, normal, tensor

from sfumato import grids
from sfumato.denoisers import Estimate
from sfumato.laws import Normal
from sfumato.noise import Noise, Seeds
from sfumato.processes import GammaNoise, MixtureNoise, Table, TwoGammaNoise
from sfumato.processes.additive import CentredGamma, GammaBridge, Noised, TwoGammas, TwoNormals
from sfumato.samplers import DDIM, Ancestral, sample

COUNT = 200_000
SHORT = Table.linear(20, 1e-2, 0.3)
UNITS = {
    "gamma": (CentredGamma(3.0), 2 / math.sqrt(3.0)),
    "gamma, few": (CentredGamma(0.4), 2 / math.sqrt(0.4)),
    "two normals": (TwoNormals(0.4, 0.5), 0.0),
    "two normals, uneven": (TwoNormals(0.5, 0.2), None),
    "two gammas": (TwoGammas(0.7, 0.5), 0.0),
    "two gammas, uneven": (TwoGammas(0.3, 0.3), None),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_have_mean_zero_variance_one_and_their_skewness(name: str) -> None:
    unit, skewness = UNITS[name]
    e = unit.draw(torch.empty(COUNT, dtype=torch.float64), Noise(0))
    kurtosis = float((e**4).mean())
    assert abs(float(e.mean())) < 4 / math.sqrt(COUNT)
    assert abs(float(e.square().mean()) - 1) < 4 * math.sqrt(kurtosis / COUNT)
    third = e**3
    if skewness is not None:
        assert abs(float(third.mean()) - skewness) < 4 * float(third.std()) / math.sqrt(COUNT)


@pytest.mark.parametrize("name", UNITS)
def test_densities_are_those_of_the_draws(name: str) -> None:
    """The integral of the density up to a point is the share of draws below it; all of it is one."""
    unit, _ = UNITS[name]
    e = unit.draw(torch.empty(COUNT, dtype=torch.float64), Noise(1)).sort().values
    low, high = float(e[0]) - 2.0, float(e[-1]) + 20.0
    # Between 0 and its neighbours the densities of few gammas have a pole: steps in the cube of the distance to it.
    pole = -math.sqrt(unit.concentration) if isinstance(unit, CentredGamma) else 0.0
    u = torch.linspace(0.0, 1.0, 400_001, dtype=torch.float64)[1:]
    right = pole + (high - pole) * u**6
    left = pole - (pole - low) * u**6
    masses = [
        torch.trapezoid(unit.log_density(x).exp() * sign * dx, u)
        for x, dx, sign in ((right, 6 * (high - pole) * u**5, 1.0), (left, 6 * (pole - low) * u**5, 1.0))
    ]
    close(sum(masses), 1.0, 2e-3)
    below = float((e < pole).double().mean())
    assert abs(float(masses[1]) - below) < 4 * math.sqrt(0.25 / COUNT) + 2e-3
    for q in (0.2, 0.7):
        x = float(e[int(q * COUNT)])
        part = torch.where(right < x, unit.log_density(right).exp() * 6 * (high - pole) * u**5, 0.0)
        other = torch.where(left < x, unit.log_density(left).exp() * 6 * (pole - low) * u**5, 0.0)
        assert abs(float(torch.trapezoid(part + other, u)) - q) < 5e-3


def test_densities_against_torch() -> None:
    k, e = tensor(0.7, 3.0, 40.0), tensor(0.4, -0.9, 2.0)
    close(CentredGamma(k).log_density(e), td.Gamma(k, 1.0).log_prob(k + k.sqrt() * e) + 0.5 * k.log(), 1e-10)
    assert float(CentredGamma(4.0).log_density(tensor(-2.1))) == -math.inf
    unit = TwoNormals(0.5, 0.2)
    first, second = unit.means
    parts = td.MixtureSameFamily(td.Categorical(tensor(0.2, 0.8)), td.Normal(tensor(first, second), tensor(0.5, 0.5)))
    close(unit.log_density(e), parts.log_prob(e))
    close(0.2 * first + 0.8 * second, 0.0)
    close(0.25 + 0.2 * first**2 + 0.8 * second**2, 1.0)


def test_the_root_of_two_gammas_has_variance_one() -> None:
    """E e^2 = scale^2 (p (k_1 + k_1^2) + (1 - p)(k_2 + k_2^2)) = 1 and E e = 0; the code's root is too large."""
    for scale, p in ((0.1, 0.5), (1.3, 0.2)):
        first, second = TwoGammas(scale, p).concentrations
        close(scale**2 * (p * (first + first**2) + (1 - p) * (second + second**2)), 1.0)
        close(p * first - (1 - p) * second, 0.0)


@pytest.mark.parametrize("process", [GammaNoise(SHORT, 0.2), MixtureNoise(SHORT, 0.3, 0.9), TwoGammaNoise(SHORT)])
def test_marginals_have_the_moments_of_the_table(process) -> None:
    x0 = torch.full((COUNT, 1), 0.7, dtype=torch.float64)
    for n in (1, 8, 20):
        x = process.marginal(x0, n / 20).sample(Noise(n))
        variance = 1 - SHORT.alpha_bars[n - 1]
        assert abs(float(x.mean()) - math.sqrt(SHORT.alpha_bars[n - 1]) * 0.7) < 4 * math.sqrt(variance / COUNT)
        spread = float(((x - x.mean()) ** 2).std()) / math.sqrt(COUNT)
        assert abs(float(x.var()) - variance) < 4 * spread
    assert float(process.prior(x0).sample(Noise(9)).var()) == pytest.approx(1.0, abs=0.03)


def test_the_one_shot_sum_is_the_chain() -> None:
    """20 small steps against one, and against the paper's own k_n and theta_n: skewness 2 / sqrt(kb_n), same law."""
    process, theta_0 = GammaNoise(SHORT, 0.5), 0.5
    bars = [1.0, *SHORT.alpha_bars]
    x = torch.full((COUNT, 1), 0.3, dtype=torch.float64)
    y, total = x.clone(), 0.0
    noise = Noise(3)
    for n in range(1, 13):
        x = process.forward(x, (n - 1) / 20, n / 20).sample(noise)
        beta, theta = 1 - bars[n] / bars[n - 1], math.sqrt(bars[n]) * theta_0
        k = beta / (bars[n] * theta_0**2)
        total += k
        g = td.Gamma(tensor(k), tensor(1 / theta))
        y = math.sqrt(1 - beta) * y + theta * noise.gamma(torch.full_like(y, k)) - g.mean
    close(process.concentration(12 / 20), total, 1e-10)
    one = process.marginal(torch.full_like(x, 0.3), 12 / 20).sample(Noise(4))
    for chain in (x, y):
        assert stats.ks_2samp(chain.flatten()[::10], one.flatten()[::10]).pvalue > 1e-3
        cubes = ((chain - chain.mean()) / chain.std()) ** 3
        assert abs(float(cubes.mean()) - 2 / math.sqrt(total)) < 4 * float(cubes.std()) / math.sqrt(COUNT)


def test_defaults_of_the_paper() -> None:
    """th_0 = 0.001: kb is 100 at n = 1 and 2.5e10 at n = 1000 of the linear table; skewness 0.2 at the first step."""
    process = GammaNoise()
    assert process.concentration(1 / 1000) == pytest.approx(100.0, rel=1e-3)
    assert process.concentration(1.0) == pytest.approx(2.48e10, rel=0.02)
    assert process.base.steps == 1000
    e = process.unit(1.0, torch.empty(0)).draw(torch.empty(COUNT), Noise(0))  # float32: centred without loss
    assert e.dtype == torch.float32 and abs(float(e.mean())) < 4 / math.sqrt(COUNT)
    assert abs(float(e.var()) - 1) < 4 * math.sqrt(2 / COUNT)
    assert stats.kstest(e.numpy(), "norm").pvalue > 1e-3


def test_a_vanishing_scale_is_normal_noise_and_a_large_one_is_not() -> None:
    like = torch.zeros(COUNT, 1, dtype=torch.float64)
    small = GammaNoise(SHORT, 1e-4).marginal(like, 0.5).sample(Noise(0)).flatten()
    assert stats.kstest(small.numpy() / SHORT.sigma(0.5), "norm").pvalue > 1e-3
    large = GammaNoise(SHORT, 0.5).marginal(like, 0.5).sample(Noise(0)).flatten()
    assert stats.kstest(large.numpy() / SHORT.sigma(0.5), "norm").pvalue < 1e-6


def test_bridge_takes_the_marginal_at_t_to_that_at_s() -> None:
    """x_t drawn, then x_s from q(x_s | x_t, x_0): the law of x_s given x_0, and the pair has the chain's covariance."""
    process, t, s = GammaNoise(SHORT, 0.6), 0.7, 0.25
    x0 = torch.full((COUNT, 1), -0.4, dtype=torch.float64)
    xt = process.marginal(x0, t).sample(Noise(0))
    law = process.bridge(x0, xt, t, s)
    xs = law.sample(Noise(1))
    direct = process.marginal(x0, s).sample(Noise(2))
    assert stats.ks_2samp(xs.flatten()[::10], direct.flatten()[::10]).pvalue > 1e-3
    r = process.alpha(t) / process.alpha(s)
    product = (xs - xs.mean()) * (xt - xt.mean())
    assert abs(float(product.mean()) - r * process.sigma(s) ** 2) < 4 * float(product.std()) / math.sqrt(COUNT)
    # Mean and average variance are those of the Gaussian bridge.
    gauss = SHORT.reverse(Estimate(x0), xt, t, s)
    close(law.mean, gauss.mean, 1e-9)
    gap = (xs - law.mean) ** 2
    assert abs(float(gap.mean()) - gauss.std**2) < 4 * float(gap.std()) / math.sqrt(COUNT)


def test_bridge_density_is_bayes_rule() -> None:
    """log q(x_s | x_t, x_0) = log q(x_s | x_0) + log q(x_t | x_s) - log q(x_t | x_0)."""
    process, t, s = GammaNoise(SHORT, 0.6), 0.7, 0.25
    x0 = normal(6, 2)
    xs = process.marginal(x0, s).sample(Noise(5))
    xt = process.forward(xs, s, t).sample(Noise(6))
    law = process.bridge(x0, xt, t, s)
    want = process.marginal(x0, s).log_prob(xs) + process.forward(xs, s, t).log_prob(xt)
    close(law.log_prob(xs), want - process.marginal(x0, t).log_prob(xt), 1e-8)
    assert float(law.kl(law).sum()) == 0.0
    assert bool(torch.isinf(law.kl(process.bridge(x0 + 0.1, xt, t, s))).all())
    with pytest.raises(TypeError, match="GammaBridge only, got Normal"):
        law.kl(Normal(x0))
    with pytest.raises(ValueError, match="a bridge goes towards data"):
        process.bridge(x0, xt, 0.2, 0.5)
    # An x_0 that would need a negative total of noise: the bridge is the least x_s.
    far = process.bridge(x0 + 100.0, xt, t, s)
    close(far.mean, far.low)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_reverse_is_the_gaussian_step_with_this_noise(eta: float) -> None:
    process = GammaNoise(SHORT, 0.3)
    xt, estimate = normal(3, 2), Estimate(normal(3, 2, seed=1), var=normal(3, 2, seed=2) ** 2)
    law, gauss = process.reverse(estimate, xt, 0.6, 0.35, eta), SHORT.reverse(estimate, xt, 0.6, 0.35, eta)
    assert isinstance(law, Noised)
    close(law.mean, gauss.mean)
    close(law.std, gauss.std)
    close(law.unit.concentration, process.concentration(0.35))
    close(process.reverse(Estimate(estimate.mean), xt, 0.6, 0.0, eta).sample(Noise(0)), estimate.mean)
    assert isinstance(GammaNoise(SHORT, 0.3, exact=True).reverse(estimate, xt, 0.6, 0.35, eta), GammaBridge) == (
        eta == 1
    )
    last = GammaNoise(SHORT, 0.3, exact=True).reverse(Estimate(estimate.mean), xt, 0.6, 0.0, 1.0)
    close(last.sample(Noise(0)), estimate.mean)


@pytest.mark.parametrize("process", [GammaNoise(SHORT, 0.2), MixtureNoise(SHORT, 0.3, 0.9), TwoGammaNoise(SHORT)])
def test_tensor_times_agree_with_float_times(process) -> None:
    x0, t, s = normal(3, 2), tensor(0.4, 0.9, 1.0), tensor(0.0, 0.3, 0.7)
    law, back = process.marginal(x0, t), process.reverse(Estimate(x0), x0 + 0.3, t, s)
    x = x0 + 0.01
    drawn = back.sample(Noise(0))
    assert bool(torch.isfinite(drawn).all())
    close(drawn[:1], x0[:1])  # s = 0 in this row
    for i in range(3):
        row = slice(i, i + 1)
        one = process.marginal(x0[row], float(t[i]))
        close(law.mean[row], one.mean)
        close(law.log_prob(x)[row], one.log_prob(x[row]), 1e-9)
        close(back.mean[row], process.reverse(Estimate(x0[row]), x0[row] + 0.3, float(t[i]), float(s[i])).mean)
        close(process.alpha(t)[i], SHORT.alpha(float(t[i])))
        close(process.rates(t)[1][i], SHORT.rates(float(t[i]))[1])


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    process = GammaNoise(SHORT, 0.4)
    x0 = normal(2, 3)
    both = process.marginal(x0, 0.5).sample(Seeds([7, 8]))
    close(both[1:], process.marginal(x0[1:], 0.5).sample(Seeds([8])))


def test_samplers_of_the_library_run_on_one_point() -> None:
    """The exact denoiser of one point: DDIM and ancestral sampling end at it, whatever the noise."""
    point = torch.full((4, 3), 0.6, dtype=torch.float64)

    class Point(torch.nn.Module):
        process = GammaNoise(SHORT, 0.4)

        def forward(self, xt, t, cond=None):
            return Estimate(point)

    for sampler in (DDIM(), DDIM(1.0), Ancestral()):
        x1 = Point.process.prior(point).sample(Noise(0))
        close(sample(Point(), sampler, x1=x1, times=grids.uniform(5), noise=Noise(1)), point)
        mid = sample(Point(), sampler, x1=x1, times=(1.0, 0.5), noise=Noise(1))
        assert float((mid - point).abs().max()) > 1e-3


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"theta_0 > 0 and a table that keeps some signal, got theta_0 = 0.0"):
        GammaNoise(SHORT, 0.0)
    with pytest.raises(ValueError, match=r"alpha\(1\) = 0.0"):
        GammaNoise(Table.linear(50).zero_terminal())
    with pytest.raises(ValueError, match=r"std in \(0, 1\] and p in \(0, 1\), got 0.7, 1.2"):
        MixtureNoise(last=1.2)
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="p in"):
            MixtureNoise(p=wrong)
        with pytest.raises(ValueError, match="scales > 0 and p in"):
            TwoGammaNoise(p=wrong)
    with pytest.raises(ValueError, match="scales > 0"):
        TwoGammaNoise(first=0.0)
    x = normal(2, 2)
    with pytest.raises(ValueError, match=r"MixtureNoise has no chain between noisy levels, got t = 0.3"):
        MixtureNoise(SHORT).forward(x, 0.3, 0.6)
    close(MixtureNoise(SHORT).forward(x, 0.0, 0.6).mean, SHORT.alpha(0.6) * x)
    with pytest.raises(TypeError, match="no closed form"):
        MixtureNoise(SHORT).marginal(x, 0.5).kl(Normal(x))


def test_levels_of_the_mixtures() -> None:
    mixed, double = MixtureNoise(SHORT, 0.3, 0.9), TwoGammaNoise(SHORT, 0.5, 0.1)
    like = torch.empty(1, 1)
    close(mixed.unit(1 / 20, like).std, 0.3)
    close(mixed.unit(1.0, like).std, 0.9)
    close(mixed.unit(10.5 / 20, like).std, 0.6)
    close(double.unit(1 / 20, like).scale, 0.5)
    close(double.unit(1.0, like).scale, 0.1)
    mid = 0.5 * (SHORT.alpha_bars[0] + SHORT.alpha_bars[-1])
    close(double.unit(SHORT.time_of(math.log(mid / (1 - mid))), like).scale, 0.3, 1e-9)


def test_the_schedule_is_that_of_the_table() -> None:
    process = MixtureNoise(SHORT, 0.3, 0.9)
    for t in (0.2, 0.65):
        close(process.log_snr(t), SHORT.log_snr(t))
        close(process.time_of(process.log_snr(t)), t, 1e-9)
        close(process.rates(t)[0], SHORT.rates(t)[0])
    # Beyond its ends the std of each normal is held, in (0, 1].
    like = torch.empty(2, 1, dtype=torch.float64)
    steep = MixtureNoise(SHORT, 0.01, 1.0)
    assert steep.unit(0.0, like).std == 1e-3
    close(steep.unit(tensor(0.0, 1.0), like).std, tensor(1e-3, 1.0).reshape(2, 1))
