"""CRPS, coverage, Frechet and sliced Wasserstein distances against closed forms and quadrature."""

import math

import pytest
import torch

from sfumato import Noise
from sfumato.metrics import central_interval, coverage, crps, frechet, frechet_normal, sliced_wasserstein


def draws(*shape):
    return Noise(3).normal(torch.empty(*shape, dtype=torch.float64))


def test_crps_is_the_integral_of_the_squared_cdf_gap():
    samples, y = torch.tensor([0.3, -1.0, 2.5, 0.3], dtype=torch.float64), 0.8
    u = torch.linspace(-4, 6, 1_000_001, dtype=torch.float64)
    cdf = (samples[:, None] <= u).double().mean(0)
    integral = torch.trapezoid((cdf - (u >= y).double()) ** 2, u)
    truth = torch.tensor([[y]], dtype=torch.float64)
    assert float(crps(samples.reshape(4, 1, 1), truth)[0]) == pytest.approx(float(integral), abs=2e-5)


def test_crps_of_one_sample_is_the_absolute_error():
    samples, truth = draws(1, 2, 3), torch.zeros(2, 3, dtype=torch.float64)
    assert torch.allclose(crps(samples, truth), samples[0].abs().mean(1))


def test_crps_is_per_item():
    samples, truth = draws(5, 2, 3), draws(2, 3)
    alone = torch.cat([crps(samples[:, i : i + 1], truth[i : i + 1]) for i in range(2)])
    assert torch.allclose(crps(samples, truth), alone, atol=1e-14)


def gaussian_crps(y, sigma=1.0):
    """CRPS of N(0, sigma^2) at y: Gneiting and Raftery 2007, p. 367."""
    z = y / sigma
    cdf, pdf = 0.5 * (1 + math.erf(z / math.sqrt(2))), math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return sigma * (z * (2 * cdf - 1) + 2 * pdf - 1 / math.sqrt(math.pi))


def test_fair_crps_of_few_samples_is_the_gaussian_one_on_average():
    n, y = 40_000, 0.7
    values = crps(2.0 * draws(3, n, 1), torch.full((n, 1), y, dtype=torch.float64), fair=True)
    error = float(values.mean()) - gaussian_crps(y, 2.0)
    assert abs(error) < 4 * float(values.std()) / math.sqrt(n)


def test_plain_crps_of_few_samples_is_too_large_by_the_spread_over_2_s():
    n = 40_000
    samples, truth = draws(3, n, 1), torch.zeros(n, 1, dtype=torch.float64)
    gap = crps(samples, truth) - crps(samples, truth, fair=True)
    # E|X - X'| = 2 / sqrt(pi) for a standard normal; the plain score misses 1/S of half of it.
    expected = 1 / math.sqrt(math.pi) / 3
    assert abs(float(gap.mean()) - expected) < 4 * float(gap.std()) / math.sqrt(n)


def test_crps_errors():
    with pytest.raises(ValueError, match=r"samples are \(S, B, \*event\), got \(2, 3\) for a truth \(2, 3\)"):
        crps(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least 2"):
        crps(torch.zeros(1, 2, 3), torch.zeros(2, 3), fair=True)


def test_frechet_of_commuting_gaussians_is_the_gap_of_means_and_roots():
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 0.0])
    mean = torch.tensor([0.0, 3.0, 4.0])
    expected = 25.0 + float(((a.sqrt() - b.sqrt()) ** 2).sum())
    assert frechet_normal(mean, a.diag(), torch.zeros(3), b.diag()) == pytest.approx(expected, abs=1e-9)


def test_frechet_of_gaussians_that_do_not_commute_is_scipys_root():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = draws(4, 4), draws(5, 4, 4)[4]
    cov_a, cov_b = a @ a.T, b @ b.T
    root = linalg.sqrtm((cov_a @ cov_b).numpy()).real
    expected = float(cov_a.trace() + cov_b.trace()) - 2 * root.trace()
    mean = torch.zeros(4, dtype=torch.float64)
    assert frechet_normal(mean, cov_a, mean, cov_b) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_sets_uses_their_means_and_unbiased_covariances():
    a = torch.tensor([[0.0], [2.0]])
    b = torch.tensor([[5.0], [5.0], [5.0]])
    assert frechet(a, b) == pytest.approx(16.0 + 2.0)  # means 1 and 5; variances 2 (over n - 1) and 0
    features = draws(50, 3)
    assert frechet(features, features) == pytest.approx(0.0, abs=1e-9)
    assert frechet(features, features + 2.0) == pytest.approx(12.0, abs=1e-9)


@pytest.mark.parametrize(
    "shapes", [((3, 2), (3, 1)), ((3,), (3, 1)), ((3, 1), (3,)), ((1, 2), (3, 2)), ((3, 2), (1, 2))]
)
def test_frechet_needs_two_sets_of_features(shapes):
    with pytest.raises(ValueError, match=r"features are \(n, d\) and \(m, d\)"):
        frechet(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_sliced_wasserstein_on_a_line_is_wasserstein(p):
    a, b = torch.tensor([3.0, 0.0, 1.0]).reshape(3, 1), torch.tensor([1.0, 7.0, 1.0]).reshape(3, 1)
    # sorted: 0 1 3 against 1 1 7, gaps 1 0 4
    expected = ((1 + 4**p) / 3) ** (1 / p)
    assert sliced_wasserstein(a, b, noise=Noise(0), projections=3, p=p) == pytest.approx(expected)


def test_sliced_wasserstein_of_a_shift_averages_the_squared_cosine():
    a = draws(20, 2, 2)
    shift = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    # (v . u)^2 averages to |v|^2 / d over directions u: here 25 / 4.
    got = sliced_wasserstein(a, a + shift, noise=Noise(1), projections=20_000) ** 2
    assert got == pytest.approx(25 / 4, rel=0.03)


def test_sliced_wasserstein_does_not_see_the_order_of_points():
    a = draws(20, 3)
    assert sliced_wasserstein(a, a.flip(0), noise=Noise(1)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="as many points"):
        sliced_wasserstein(a, a[:5], noise=Noise(1))


def test_the_interval_of_19_samples_at_ninety_percent_is_their_range():
    samples = torch.arange(19.0).flip(0).reshape(19, 1, 1)
    low, high = central_interval(samples, 0.9)
    assert float(low) == pytest.approx(0.0, abs=1e-6) and float(high) == pytest.approx(18.0, abs=1e-5)


def test_the_interval_interpolates_between_order_statistics_and_stops_at_the_outermost():
    samples = torch.tensor([0.0, 10.0, 30.0, 70.0]).reshape(4, 1, 1)
    low, high = central_interval(samples, 0.5)  # places 1.25 and 3.75, counted from 1
    assert float(low) == pytest.approx(2.5) and float(high) == pytest.approx(60.0)
    low, high = central_interval(samples, 0.99)
    assert float(low) == 0.0 and float(high) == 70.0


def test_coverage_of_exchangeable_samples_is_the_level():
    n = 40_000
    share = coverage(draws(19, 1, n), Noise(9).normal(torch.empty(1, n, dtype=torch.float64)), level=0.8)
    assert abs(float(share[0]) - 0.8) < 4 * math.sqrt(0.8 * 0.2 / n)


def test_coverage_is_per_item_and_counts_the_ends():
    samples = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).expand(2, 2, 4)
    truth = torch.tensor([[0.0, 1.0, 0.5, 2.0], [-1.0, -1.0, 3.0, 0.5]])
    assert coverage(samples, truth).tolist() == [0.75, 0.25]


def test_coverage_errors():
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.0"):
        coverage(torch.zeros(2, 1, 1), torch.zeros(1, 1), level=1.0)
    with pytest.raises(ValueError, match="between 0 and 1, got 0"):
        central_interval(torch.zeros(2, 1, 1), 0)
    with pytest.raises(ValueError, match=r"for a truth \(1, 2\)"):
        coverage(torch.zeros(2, 1, 1), torch.zeros(1, 2))
