"""Variational dequantisation against a density whose cells are known; the logit and its log-determinant."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close

from sfumato import Noise, recipes
from sfumato.codecs import Logit
from sfumato.likelihood import Dequantizer, bits_per_dim, dequantize
from sfumato.samplers import EulerMaruyama

K = 4
MASS = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)


class Fixed(nn.Module):
    """m and s, the same for every number."""

    def __init__(self, m: float = 0.0, s: float = 0.0) -> None:
        super().__init__()
        self.m, self.s = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (m, s))

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        assert float(x.abs().max()) < 1.0 and not c_noise.any() and cond is None
        return torch.cat([self.m.expand_as(x), self.s.expand_as(x)], 1)


def log_density(x: Tensor, m: float, s: float) -> Tensor:
    """Levels with the masses above; inside its cell u = sigmoid(m + e^s zeta), by the logistic density."""
    place = (x + 1) * K / 2
    k = place.floor().clamp(0, K - 1)
    u = (place - k).clamp(1e-12, 1 - 1e-12)
    zeta = (torch.logit(u) - m) / math.exp(s)
    inside = -zeta - 2 * nn.functional.softplus(-zeta) - s - torch.log(u * (1 - u))
    return (MASS[k.long()].log() + inside + math.log(K / 2)).flatten(1).sum(1)


def levels(n: int) -> Tensor:
    return Noise(5).choice(MASS.expand(n, 2, 3, 4))


def test_the_density_of_the_test_integrates_to_its_masses() -> None:
    x = -1 + 2 * (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    p = log_density(x[:, None], 0.4, -0.5).exp() * (2 / 400_000)
    close(p.reshape(K, -1).sum(1), MASS, 1e-4)


def test_the_bound_is_tight_where_q_is_the_law_inside_the_cells() -> None:
    k = levels(50)
    truth = MASS[k].log().flatten(1).sum(1)
    for m, s in ((0.0, 0.0), (0.4, -0.5)):
        found = Dequantizer(Fixed(m, s), K).bound(lambda x, m=m, s=s: log_density(x, m, s), k, Noise(0))
        close(found, truth, 1e-5)


def test_a_uniform_start_and_a_looser_bound_elsewhere() -> None:
    """m = s = 0 is uniform: log q = 0, and the numbers are `dequantize`'s. The gap is a KL of two logistic normals."""
    k = levels(3000)
    start = Dequantizer(Fixed(), K)
    x, log_q = start(k, Noise(0))
    assert float(log_q.abs().max()) < 1e-9
    u = Noise(0).uniform(torch.empty(k.shape, dtype=torch.float64))
    close(x, 2 * (k + u) / K - 1, 1e-6)
    truth = MASS[k].log().flatten(1).sum(1)
    gap = truth - start.bound(lambda x: log_density(x, 0.4, -0.5), k, Noise(0))
    z = torch.logit((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    logistic = lambda y: -y - 2 * nn.functional.softplus(-y)  # noqa: E731
    kl = float((logistic(z) - (logistic((z - 0.4) / math.exp(-0.5)) + 0.5)).mean())
    assert float(gap.mean()) / 6 == pytest.approx(kl, rel=0.05) and kl > 0.05


def test_it_learns_the_law_inside_the_cells() -> None:
    q = Dequantizer(Fixed(), K)
    optimizer = torch.optim.Adam(q.parameters(), 0.05)
    for step in range(150):
        loss = -q.bound(lambda x: log_density(x, 0.4, -0.5), levels(40), Noise(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(q.net.m) == pytest.approx(0.4, abs=0.05) and float(q.net.s) == pytest.approx(-0.5, abs=0.05)


def test_recipe_of_score_flow_begins_uniform() -> None:
    recipe = recipes.load("score-flow").Recipe(channels=1, widths=(8,), blocks=1, attention=())
    torch.manual_seed(0)
    q = recipe.dequantizer()
    k = torch.randint(0, 256, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    x, log_q = q(k, Noise(0))
    assert q.levels == 256 and float(log_q.detach().abs().max()) < 1e-4
    close(x.detach(), dequantize(k, Noise(0)), 1e-6)
    q.bound(lambda x: -x.square().flatten(1).sum(1), k, Noise(0)).sum().backward()
    assert float(q.net.leave.bias.grad.abs().min()) > 0


# The logit


def test_logit_is_inverted_and_its_log_determinant_is_that_of_the_jacobian() -> None:
    codec = Logit(0.1)
    x = torch.tensor([[0.0, 0.3], [0.8, 1.0]], dtype=torch.float64)
    z = codec.encode(x)
    close(z[0, 1], math.log((0.1 + 0.8 * 0.3) / (1 - 0.1 - 0.8 * 0.3)))
    close(codec.decode(z), x)
    jacobian = torch.autograd.functional.jacobian(lambda v: codec.encode(v[None])[0], x[0])
    close(codec.log_det(x)[0], torch.linalg.slogdet(jacobian).logabsdet)
    assert Logit() == Logit(0.05) and codec.affine is None and codec.latent((3, 4)) == (3, 4)


def test_bits_through_the_logit_are_those_of_the_data() -> None:
    """A normal law of z is a density of x that integrates to one: its bits do not depend on where it was measured."""
    codec = Logit(0.05)
    x = (torch.arange(20_000, dtype=torch.float64) + 0.5)[:, None] / 20_000
    normal_law = torch.distributions.Normal(0.3, 0.8)
    log_p = normal_law.log_prob(codec.encode(x)).sum(1) + codec.log_det(x)
    inside = normal_law.cdf(codec.encode(torch.ones(1, dtype=torch.float64))) - normal_law.cdf(codec.encode(torch.zeros(1, dtype=torch.float64)))  # fmt: skip # noqa: E501
    close(log_p.exp().mean(), inside, 1e-4)
    flat = torch.zeros(1, dtype=torch.float64)
    assert float(bits_per_dim(flat, 1, width=1 / 256)) == 8.0


@pytest.mark.parametrize("margin", [0.0, 0.5, -1.0])
def test_margins_and_data_are_checked(margin: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 0\.5, got"):
        Logit(margin)
    for bad in (-0.01, 1.01):
        with pytest.raises(ValueError, match=r"data in \[0, 1\], got"):
            Logit().encode(torch.tensor([[0.5, bad]]))


def test_recipe_of_sdeflow_has_the_family_and_the_codec() -> None:
    recipe = recipes.load("sdeflow").Recipe()
    assert recipe.sampler() == EulerMaruyama(1.0) and recipe.sampler(1.0) == EulerMaruyama(0.0)
    # Diffusion sqrt(1 - lam) g, drift (1 - lam / 2) g^2 score: (1 + eta^2) / 2 = 1 - lam / 2.
    eta = recipe.sampler(0.36).eta
    assert eta == pytest.approx(0.8) and (1 + eta**2) / 2 == pytest.approx(1 - 0.36 / 2)
    assert recipe.codec() == Logit()
    for lam in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"lies in \[0, 1\], got"):
            recipe.sampler(lam)
