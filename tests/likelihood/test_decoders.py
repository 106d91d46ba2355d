"""Decoders, dequantisation and bits: sums over all levels, and integrals by quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import close, normal, tensor

from sfumato.laws import Normal
from sfumato.likelihood import bits_per_dim, categorical, density, dequantize, discretized
from sfumato.noise import Noise, Seeds

DDPM_LEVELS = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
VDM_LEVELS = ((torch.arange(256, dtype=torch.float64) + 0.5) / 128 - 1)[:, None]


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.3), (-1.2, 0.02), (3.0, 0.7), (0.999, 1e-3), (0.0, 5.0)])
def test_decoders_sum_to_one_over_the_levels(mean: float, std: float) -> None:
    close(discretized(Normal(torch.full_like(DDPM_LEVELS, mean), std), DDPM_LEVELS).exp().sum(), 1.0, 1e-12)
    close(categorical(Normal(torch.full_like(VDM_LEVELS, mean), std), VDM_LEVELS).exp().sum(), 1.0, 1e-12)


def test_a_bin_of_the_discretised_decoder_is_the_integral_over_it() -> None:
    """Midpoint rule with 4001 nodes over [x - 1/255, x + 1/255]; the law is wide, so no tail is near."""
    x, law = tensor(-0.5, 0.2, 0.6).reshape(3, 1), Normal(tensor(0.3, 0.1, 0.7).reshape(3, 1), 0.05)
    nodes = x + (torch.arange(4001, dtype=torch.float64) + 0.5) / 4001 * (2 / 255) - 1 / 255
    dense = torch.exp(-0.5 * ((nodes - law.mean) / 0.05) ** 2) / (0.05 * math.sqrt(2 * math.pi))
    close(discretized(law, x), (dense.mean(1) * 2 / 255).log(), 1e-7)


def test_the_edges_are_open_and_only_they() -> None:
    """A law far beyond an edge gives it all its mass; the next level has what lies in its own bin."""
    far = Normal(tensor(4.0, 4.0, -4.0, -4.0).reshape(4, 1), 1.0)
    got = discretized(far, tensor(1.0, 1.0 - 2 / 255, -1.0, -1.0 + 2 / 255).reshape(4, 1)).exp()
    edge = 0.5 * math.erfc(-(4.0 - 1.0 + 1 / 255) / math.sqrt(2))
    inner = 0.5 * math.erfc((3.0 + 1 / 255) / math.sqrt(2)) - 0.5 * math.erfc((3.0 + 3 / 255) / math.sqrt(2))
    close(got, tensor(edge, inner, edge, inner), 1e-10)


def test_tails_keep_their_digits_and_gradients() -> None:
    """Thirty standard deviations away the mass underflows, its logarithm does not: about -z^2 / 2 - log z."""
    mean = tensor(-0.6).reshape(1, 1).requires_grad_()
    for side in (1.0, -1.0):
        got = discretized(Normal(mean * side, 0.02), tensor(0.0).reshape(1, 1))
        z = (0.6 - 1 / 255) / 0.02
        assert abs(float(got) - (-0.5 * z * z - math.log(z * math.sqrt(2 * math.pi)))) < 2 / z**2
        (grad,) = torch.autograd.grad(got.sum(), mean)
        close(grad, z / 0.02, 2e-3)
    edges = discretized(Normal(mean.expand(2, 1), 0.02), tensor(1.0, -1.0).reshape(2, 1))
    assert bool(torch.isfinite(torch.autograd.grad(edges.sum(), mean)[0]).all())


def test_decoders_sum_over_the_event() -> None:
    x, mean = normal(2, 3, 4).clamp(-1, 1), 0.3 * normal(2, 3, 4, seed=1)
    for decoder in (discretized, categorical, density):
        one = decoder(Normal(mean.reshape(24, 1), 0.2), x.reshape(24, 1)).reshape(2, 12).sum(1)
        close(decoder(Normal(mean, 0.2), x), one, 1e-12)


def test_four_levels() -> None:
    """Two bits: the discretised levels are -1, -1/3, 1/3, 1; the categorical ones are -3/4, -1/4, 1/4, 3/4."""
    x = tensor(-1, -1 / 3, 1 / 3, 1).reshape(4, 1)
    close(discretized(Normal(torch.zeros_like(x), 0.4), x, levels=4).exp().sum(), 1.0)
    y = tensor(-0.75, -0.25, 0.25, 0.75).reshape(4, 1)
    weights = torch.exp(-0.5 * ((y[:, 0] - 0.1) / 0.4) ** 2)
    close(categorical(Normal(0.1 + 0 * y, 0.4), y, levels=4).exp(), weights / weights.sum())


def test_discretised_data_must_lie_in_range_and_the_law_must_have_a_density() -> None:
    with pytest.raises(ValueError, match=r"data in \[-1, 1\], got 1\.5"):
        discretized(Normal(torch.zeros(1, 1), 1.0), torch.full((1, 1), -1.5))
    with pytest.raises(ValueError, match="std > 0"):
        discretized(Normal(torch.zeros(1, 1), 0.0), torch.zeros(1, 1))


def test_dequantised_levels_fill_their_bins() -> None:
    k = torch.arange(256).repeat(200).reshape(200, 256)
    x = dequantize(k, Noise(0))
    place = (x.double() + 1) * 128 - k
    assert float(place.min()) >= -1e-4 and float(place.max()) <= 1 + 1e-4
    assert abs(float(place.mean()) - 0.5) < 4 / math.sqrt(12 * k.numel())
    assert abs(float(place.var()) - 1 / 12) < 0.002
    assert x.dtype == torch.get_default_dtype()
    coarse = dequantize(torch.tensor([[0], [3]]), Seeds([1, 2]), levels=4)
    assert -1 <= float(coarse[0]) <= -0.5 and 0.5 <= float(coarse[1]) <= 1
    assert torch.equal(coarse[1:], dequantize(torch.tensor([[3]]), Seeds([2]), levels=4))


def test_bits_of_uniform_levels_are_eight() -> None:
    """Data uniform over 256 levels has 8 bits a dimension, in [-1, 1] (density 1/2) and in [0, 1] (density 1)."""
    close(bits_per_dim(tensor(3 * math.log(0.5)), 3), 8.0)
    close(bits_per_dim(tensor(0.0), 3, width=1 / 256), 8.0)
    close(bits_per_dim(tensor(-2 * math.log(2.0)), 2), 7.0 + 1.0)
