"""Counts and speckle: the laws, and what measurements make of them."""

import pytest
import torch
from torch.distributions import Gamma, Poisson

from sfumato import operators as ops
from sfumato.codecs import Affine
from sfumato.noise import Noise, Seeds
from sfumato.operators import Measurement
from sfumato.operators.levels import chi_square

LAWS = [ops.Poisson(20.0), ops.Speckle(4.0)]


def uniform(*shape, seed=0, low=0.3, high=2.0):
    return low + (high - low) * Noise(seed).uniform(torch.empty(shape, dtype=torch.float64))


def density(law, y, c):
    """log p(y | c), from another library."""
    if isinstance(law, ops.Poisson):
        return Poisson(law.peak * c).log_prob(law.peak * y)
    return Gamma(torch.full_like(c, law.looks), law.looks / c).log_prob(y)


@pytest.mark.parametrize("law", LAWS)
class TestLaws:
    def test_energy_is_minus_the_log_density(self, law):
        c = uniform(5, 7)
        y = law.simulate(c, Noise(1))
        torch.testing.assert_close(law.energy(y, c), -density(law, y, c), rtol=1e-12, atol=1e-12)

    def test_draws_have_its_mean_and_variance(self, law):
        c = torch.tensor([0.5, 1.5], dtype=torch.float64).repeat(40000, 1)
        for noise in (Noise(1), Seeds(range(40000))):
            y = law.simulate(c, noise)
            var = law.variance(c)[0]
            torch.testing.assert_close(
                var, torch.tensor([0.025, 0.075] if law == LAWS[0] else [0.0625, 0.5625]).double()
            )
            assert ((y.mean(0) - c[0]).abs() < 4 * (var / 40000).sqrt()).all()
            # the excess kurtosis is 1 / mean count, 6 / looks: standard error of a variance sqrt((2 + k) / n)
            k = 1 / (20 * c[0]) if law == LAWS[0] else torch.full((2,), 6 / 4)
            assert ((y.var(0) / var - 1).abs() < 4 * ((2 + k) / 40000).sqrt()).all()

    def test_below_the_floor_the_tangent_leads_back(self, law):
        floor = law.floor / getattr(law, "peak", 1.0)
        y = torch.full((3,), 0.4, dtype=torch.float64)
        c = torch.tensor([-1.0, 0.0, floor * (1 + 1e-9)], dtype=torch.float64, requires_grad=True)
        E = law.energy(y, c)
        (g,) = torch.autograd.grad(E.sum(), c)
        assert torch.isfinite(E).all() and (g < 0).all()
        torch.testing.assert_close(g[:2], g[2:].expand(2), rtol=1e-6, atol=0)
        torch.testing.assert_close(E[0] - E[1], -g[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(E[1] - E[2], -g[0] * floor, rtol=1e-6, atol=0)
        assert law.variance(c)[0] == law.variance(c.new_tensor([floor]))[0] > 0

    def test_a_row_of_seeds_is_the_same_in_any_batch(self, law):
        c = uniform(3, 4)
        both = law.simulate(c, Seeds([5, 6, 7]))
        assert torch.equal(both[1:2], law.simulate(c[1:2], Seeds([6])))

    def test_negative_means_are_refused(self, law):
        with pytest.raises(ValueError, match="not all at least 0: simulate in data space"):
            law.simulate(torch.tensor([0.5, -0.1]), Noise(0))
        with pytest.raises(ValueError, match="not all at least 0"):
            law.simulate(torch.ones(2, dtype=torch.complex64), Noise(0))

    def test_a_mask_hides(self, law):
        A, x = ops.Mask(torch.tensor([1.0, 0.0, 1.0])), uniform(2, 3)
        m = Measurement.simulate(A, x, likelihood=law, noise=Noise(3))
        assert m.sigma == 0.0 and m.likelihood is law and bool((m.y[:, 1] == 0).all())
        z = x.clone().requires_grad_()
        E = m.energy(z)
        (g,) = torch.autograd.grad(E.sum(), z)
        torch.testing.assert_close(E, -density(law, m.y, x)[:, [0, 2]].sum(1))
        assert bool((g[:, 1] == 0).all()) and bool((g[:, [0, 2]] != 0).all())

    def test_chi_square_is_one_for_the_truth(self, law):
        mask = torch.ones(50, 40)
        mask[:, :20] = 0
        x = uniform(2, 1, 50, 40)
        m = Measurement.simulate(ops.Mask(mask), x, likelihood=law, noise=Noise(4))
        assert chi_square(m, x) == pytest.approx([1.0, 1.0], abs=4 * (3.5 / 1000) ** 0.5)
        assert (chi_square(m, x + 1.0) > 2).all() or isinstance(law, ops.Speckle)

    def test_the_measurement_in_model_space_is_the_same(self, law):
        x = uniform(2, 1, 4, 4)
        m = Measurement.simulate(ops.Downsample(2), x, likelihood=law, noise=Noise(4))
        inner = m.to_model(Affine.unit())
        assert not isinstance(inner.operator, ops.Linear) and inner.event == (1, 4, 4) and inner.likelihood is law
        torch.testing.assert_close(inner.energy(Affine.unit().encode(x)), m.energy(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "make", [ops.Poisson, lambda v: ops.Poisson(1.0, v), ops.Speckle, lambda v: ops.Speckle(1.0, v)]
)
def test_settings_are_positive(make):
    with pytest.raises(ValueError, match="above 0, got"):
        make(0.0)
    make(1e-6)


def test_energy_of_gaussian_noise():
    x = uniform(2, 3)
    m = Measurement(ops.Identity(), x + torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.5]]).double(), 0.5)
    assert m.energy(x).tolist() == pytest.approx([18.0, 0.5])
    with pytest.raises(ValueError, match="without noise y has no likelihood"):
        Measurement(ops.Identity(), x, 0.0).energy(x)


def test_one_kind_of_noise_at_a_time():
    with pytest.raises(ValueError, match=r"the noise is Poisson\(peak=5.0, floor=0.1\): leave sigma out, got 0.1"):
        Measurement(ops.Identity(), torch.ones(1, 2), 0.1, ops.Poisson(5.0))
    with pytest.raises(ValueError, match="leave sigma out"):
        Measurement.simulate(ops.Identity(), torch.ones(1, 2), sigma=0.1, likelihood=ops.Poisson(5.0), noise=Noise(0))
