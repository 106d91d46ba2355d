"""Chains that are an instrument's noise: their moments, both ways, and draws against conjugate posteriors."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Normal
from sfumato.noise import Noise, Seeds
from sfumato.processes import Observed, Photons, Process, Speckle, entry
from sfumato.processes.thinning import Counts, Sums
from sfumato.samplers import Ancestral, sample

F64 = {"dtype": torch.float64}
N = 100_000


def full(x: float, n: int = N) -> torch.Tensor:
    return torch.full((n, 1), x, **F64)


def moments(x: torch.Tensor) -> tuple[float, float, float]:
    """Mean, variance and third central moment."""
    c = x - x.mean()
    return float(x.mean()), float((c**2).mean()), float((c**3).mean())


# Of i_0 = 1.4 at precision k, in closed form: mean, variance, third central moment of i_t
LAWS = {
    "photons": (Photons(6.0), lambda k: (1.4, 1.4 / k, 1.4 / k**2)),
    "speckle": (Speckle(6.0), lambda k: (1.4, 1.4**2 / k, 2 * 1.4**3 / k**2)),
}
both = pytest.mark.parametrize("name", LAWS)


def agree(x: torch.Tensor, want: tuple[float, float, float]) -> None:
    mean, var, third = moments(x)
    n = x.numel()
    assert mean == pytest.approx(want[0], abs=4.5 * math.sqrt(want[1] / n))
    assert var == pytest.approx(want[1], rel=4.5 * math.sqrt(4 / n) + 0.01)
    assert third == pytest.approx(want[2], rel=0.12)


@both
def test_the_chain_from_level_to_level_has_the_marginals(name: str) -> None:
    process, want = LAWS[name]
    x = full(1.4)
    for t, s in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        x = process.forward(x, t, s).sample(Noise(int(10 * s)))
        agree(x, want(6.0 / s))
    agree(process.marginal(full(1.4), 1.0).sample(Noise(3)), want(6.0))
    t = torch.full((N,), 0.6, **F64)
    agree(process.marginal(full(1.4), t).sample(Noise(4)), want(10.0))
    for law in (process.forward(x, 0.6, 1.0), process.marginal(x, 0.6)):
        assert float((law.sample(Noise(5)) - law.mean).mean()) == pytest.approx(0.0, abs=0.01)
    step = process.forward(full(1.5, 2), 0.6, 1.0)
    assert torch.allclose(step.mean, full(1.5, 2))


@both
def test_the_way_back_with_the_true_x0_has_the_marginal_of_s(name: str) -> None:
    process, want = LAWS[name]
    x = process.marginal(full(1.4), 1.0).sample(Noise(0))
    for t, s in ((1.0, 0.5), (0.5, 0.2)):
        law = process.reverse(Estimate(full(1.4)), x, t, s)
        assert torch.allclose(law.mean, (s / t) * x + (1 - s / t) * 1.4, atol=1e-9)
        x = law.sample(Noise(int(10 * s)))
        agree(x, want(6.0 / s))
    end = process.reverse(Estimate(full(1.4)), x, 0.2, 0.0)
    assert torch.equal(end.sample(Noise(0)), full(1.4))


class Conjugate(Denoiser):
    """E[i_0 | i_t], and its variance, under Gamma(a, rate b) for photons and InvGamma(a, b) for speckle."""

    def __init__(self, process: Process, a: float, b: float, spread: bool) -> None:
        super().__init__()
        self.process, self.a, self.b, self.spread = process, a, b, spread

    def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
        assert isinstance(self.process, Photons | Speckle)
        k = self.process.precision / t
        if isinstance(self.process, Photons):
            mean = (k * xt + self.a) / (k + self.b)
            var = mean / (k + self.b)
        else:
            mean = (k * xt + self.b) / (k + self.a - 1)
            var = mean**2 / (k + self.a - 2)
        return Estimate(mean, var if self.spread else None)


def drawn(process: Process, a: float, b: float, y: float, steps: int, spread: bool, n: int = 20_000) -> torch.Tensor:
    D = Conjugate(process.bind(full(y, n)), a, b, spread)
    x1 = D.process.prior(full(0.0, n)).sample(Noise(0))  # type: ignore[attr-defined]
    assert torch.equal(x1, full(y, n))
    # The last step returns D, whose spread is that of what is left open at the last level: end close to 0.
    return sample(D, Ancestral(), x1=x1, times=(*grids.power(steps, power=3.0, end=1e-4), 0.0), noise=Noise(1))


def test_photons_tend_to_the_posterior_and_are_exact_with_a_variance() -> None:
    process, a, b, y = Photons(4.0), 2.0, 1.5, 0.75  # three counts
    shape, rate = a + 3, b + 4.0
    mean, var = shape / rate, shape / rate**2
    errors = []
    for steps in (4, 60):
        x = drawn(process, a, b, y, steps, spread=False)
        assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / len(x)))
        errors.append(abs(float(x.var()) / var - 1))
    assert errors[1] < 0.06 < 0.2 < errors[0]
    for steps in (1, 3):
        x = drawn(process, a, b, y, steps, spread=True)
        assert float(x.var()) == pytest.approx(var, rel=0.05)
        assert stats.kstest(x.flatten().numpy(), stats.gamma(shape, scale=1 / rate).cdf).pvalue > 1e-3


def test_speckle_stays_short_for_ever_without_a_variance_and_is_exact_with_it() -> None:
    """The variance tends to E^2 (e^(1/m) - 1), m = a + k_1 - 1, not to E^2 / (m - 1)."""
    process, a, b, y = Speckle(4.0), 3.0, 2.0, 1.0
    m = a + 4.0 - 1
    mean = (4.0 * y + b) / m
    short, right = mean**2 * (math.exp(1 / m) - 1), mean**2 / (m - 1)
    x = drawn(process, a, b, y, 150, spread=False, n=40_000)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(short / len(x)))
    assert float(x.var()) == pytest.approx(short, rel=0.04)
    assert short / mean**2 == pytest.approx(0.181, abs=5e-4) and right / mean**2 == pytest.approx(0.2)
    for steps in (1, 3):
        x = drawn(process, a, b, y, steps, spread=True, n=40_000)
        assert stats.kstest(x.flatten().numpy(), stats.invgamma(a + 4, scale=b + 4 * y).cdf).pvalue > 1e-3


def test_gaussian_noise_begins_at_the_picture_and_is_exact_with_a_variance() -> None:
    """N(m, v) and y = x_0 + 0.5 n: the posterior, from y on, in two steps."""
    process = Observed(0.5, read=entry("image")).bind({"image": full(0.9, 1)})
    assert process.sigma(1.0) == 0.5 and process.sigma(0.25) == 0.25 and process.bind(None) is process
    law = process.prior(full(0.0, 3))
    assert torch.equal(law.mean, full(0.9, 3)) and law.std == 0.0
    D, xt = 0.2, 0.9
    step = process.reverse(Estimate(full(D, 1)), full(xt, 1), 1.0, 0.36)
    share = 0.36  # s_u^2 / s_t^2
    assert float(step.mean) == pytest.approx(share * xt + (1 - share) * D)
    assert step.std == pytest.approx(0.5 * 0.6 * math.sqrt(1 - share))


@both
def test_units_of_the_model_space_change_nothing(name: str) -> None:
    plain = LAWS[name][0]
    moved = type(plain)(plain.precision, -1.0, 1.0)
    x, up = torch.tensor([[0.5], [1.5]], **F64), lambda i: 2.0 * i - 1.0
    for make in (
        lambda p, f: p.marginal(f(x), 0.5),
        lambda p, f: p.forward(f(x), 0.5, 0.75),
        lambda p, f: p.reverse(Estimate(f(x + 0.1)), f(x), 0.75, 0.5),
        lambda p, f: p.reverse(Estimate(f(x + 0.1), full(0.2 if p is plain else 0.8, 2)), f(x), 0.75, 0.5),
    ):
        a, b = make(plain, lambda i: i), make(moved, up)
        assert torch.allclose(up(a.mean), b.mean)
        assert torch.allclose(up(a.sample(Noise(0))), b.sample(Noise(0)))


@both
def test_draws_of_a_row_depend_on_its_seed_alone(name: str) -> None:
    process, x = LAWS[name][0], torch.tensor([[0.5], [1.5], [2.0]], **F64)
    for make in (
        lambda r: process.marginal(x[r], 0.5), lambda r: process.forward(x[r], 0.5, 0.75),
        lambda r: process.reverse(Estimate(x[r], x[r]), x[r], 0.75, 0.5),
    ):  # fmt: skip
        whole = make(slice(0, 3)).sample(Seeds([4, 5, 6]))
        assert torch.equal(whole[1:2], make(slice(1, 2)).sample(Seeds([5])))


def test_counts_are_whole_and_estimates_below_zero_count_as_zero() -> None:
    process = Photons(7.0)
    counts = process.marginal(full(1.3, 50), 1.0).sample(Noise(0)) * 7
    assert torch.allclose(counts, counts.round(), atol=1e-9) and float(counts.std()) > 1.0
    between = process.reverse(Estimate(full(0.0, 2)), full(2.4 / 7, 2), 1.0, 0.5)
    assert torch.allclose(between.sample(Noise(0)), full(2 / 14, 2))  # 2.4 is 2 counts
    kept = process.forward(full(2.6 / 7, 5000), 1.0 - 1e-12, 1.0).sample(Noise(0))
    assert torch.allclose(kept, full(3 / 7, 5000))
    for p in (process, Speckle(7.0)):
        law = p.reverse(Estimate(full(-0.3, 2)), full(2 / 7, 2), 1.0, 0.5)
        assert torch.allclose(law.sample(Noise(0)), full(1 / 7, 2))
        assert torch.equal(p.reverse(Estimate(full(-0.3, 2)), full(2 / 7, 2), 1.0, 0.0).mean, full(-0.3, 2))
        sure = p.reverse(Estimate(full(0.0, 2), full(0.0, 2)), full(2 / 7, 2), 1.0, 0.5)
        assert torch.allclose(sure.sample(Noise(0)), full(1 / 7, 2))


@both
def test_where_nothing_moves_and_what_is_refused(name: str) -> None:
    process, x = LAWS[name][0], full(0.5, 2)
    for law in (process.forward(x, 0.4, 0.4), process.reverse(Estimate(x), x, 0.4, 0.4), process.marginal(x, 0.0)):
        assert isinstance(law, Normal) and torch.equal(law.mean, x) and law.std == 0.0
    with pytest.raises(ValueError, match="forward goes towards noise"):
        process.forward(x, 0.5, 0.4)
    with pytest.raises(ValueError, match="reverse goes towards data"):
        process.reverse(Estimate(x), x, 0.4, 0.5)
    with pytest.raises(ValueError, match="all rows at one time, got eta = 0"):
        process.reverse(Estimate(x), x, 0.5, 0.4, 0.0)
    times = torch.tensor([0.5, 0.5])
    for t, s in ((times, 0.4), (0.6, times)):
        with pytest.raises(ValueError, match="all rows at one time"):
            process.reverse(Estimate(x), x, t, s)
        with pytest.raises(ValueError, match="give floats"):
            process.forward(x, s, t)
    with pytest.raises(ValueError, match="give x1"):
        process.prior(x)
    bound = process.bind(x)
    assert bound.bind(2 * x) is bound and process.bind(None) is process
    for bad in ((0.0, 0.0, 1.0), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match="precision > 0 and low < high"):
            type(process)(*bad)


def test_densities() -> None:
    x0 = torch.tensor([[0.5, 1.5]], **F64)
    counts = Photons(4.0).marginal(x0, 0.5)
    x = torch.tensor([[3 / 8, 10 / 8]], **F64)
    want = stats.poisson(4.0).logpmf(3) + stats.poisson(12.0).logpmf(10)
    assert float(counts.log_prob(x)) == pytest.approx(want)
    back = Photons(4.0).reverse(Estimate(x0), torch.tensor([[0.25, 0.5]], **F64), 1.0, 0.5)
    want = stats.poisson(2.0).logpmf(2) + stats.poisson(6.0).logpmf(8)
    assert float(back.log_prob(x)) == pytest.approx(want)
    thinned = Photons(4.0).forward(torch.tensor([[6 / 8, 9 / 8]], **F64), 0.5, 0.8)
    want = stats.binom(6, 0.625).logpmf(2) + stats.binom(9, 0.625).logpmf(4)
    assert float(thinned.log_prob(torch.tensor([[2 / 5, 4 / 5]], **F64))) == pytest.approx(want)
    sums = Speckle(4.0).reverse(Estimate(x0), torch.tensor([[0.25, 0.5]], **F64), 1.0, 0.5)
    x = torch.tensor([[0.4, 1.1]], **F64)
    want = sum(stats.gamma(4.0, scale=m / 8, loc=at / 2).logpdf(v) for m, at, v in ((0.5, 0.25, 0.4), (1.5, 0.5, 1.1)))
    assert float(sums.log_prob(x)) == pytest.approx(want)
    other = Photons(4.0).marginal(x0 + 0.5, 0.5)
    want = sum(r * math.log(r / q) - r + q for r, q in ((4.0, 8.0), (12.0, 16.0)))
    assert float(counts.kl(other)) == pytest.approx(want)  # type: ignore[attr-defined]
    assert isinstance(counts, Counts) and isinstance(sums, Sums)
    for law in (thinned, sums):
        with pytest.raises(TypeError, match="is not given"):
            law.kl(law)
    with pytest.raises(TypeError, match="known rates only, got Sums"):
        counts.kl(sums)
    for p in (Photons(4.0), Speckle(4.0)):
        loose = p.reverse(Estimate(x0, x0), x0, 1.0, 0.5)
        with pytest.raises(ValueError, match="without a variance"):
            loose.log_prob(x0)
    with pytest.raises(TypeError):
        counts.kl(Photons(4.0).reverse(Estimate(x0, x0), x0, 1.0, 0.5))
