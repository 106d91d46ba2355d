"""Laws against torch.distributions, an independent implementation."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as td
from worlds_for_tests import close, normal, tensor

from sfumato.laws import Categorical, Gamma, Normal
from sfumato.noise import Noise

MEAN, X = normal(3, 2, 4, seed=1), normal(3, 2, 4, seed=2)
STD = 0.3 + normal(3, 2, 4, seed=3) ** 2
PROBS = torch.softmax(normal(3, 2, 5, seed=4), -1)
K, THETA = 0.5 + STD, 0.2 + normal(3, 2, 4, seed=5) ** 2


def rows(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).sum(1)


def test_log_densities() -> None:
    for std in (STD, 0.7, STD[:, :1, :1]):
        close(Normal(MEAN, std).log_prob(X), rows(td.Normal(MEAN, std).log_prob(X)))
    k = torch.tensor([[0, 4], [1, 1], [3, 2]])
    close(Categorical(PROBS).log_prob(k), rows(td.Categorical(PROBS).log_prob(k)))
    x = 0.4 + K
    close(Gamma(K, THETA, 0.4).log_prob(x), rows(td.Gamma(K, 1 / THETA).log_prob(x - 0.4)), 1e-10)
    close(Gamma(K, 0.5).log_prob(x), rows(td.Gamma(K, tensor(2.0)).log_prob(x)), 1e-10)


def test_divergences() -> None:
    kl = td.kl_divergence
    for std in (STD, 0.7):
        want = rows(kl(td.Normal(MEAN, STD), td.Normal(X, std)))
        close(Normal(MEAN, STD).kl(Normal(X, std)), want)
        close(Normal(MEAN, std).kl(Normal(MEAN, std)), 0.0)
    other = PROBS.flip(-1)
    close(Categorical(PROBS).kl(Categorical(other)), rows(kl(td.Categorical(PROBS), td.Categorical(other))))
    sure = torch.zeros_like(PROBS)
    sure[..., 0] = 1.0  # 0 log 0 = 0
    close(Categorical(sure).kl(Categorical(PROBS)), -rows(PROBS[..., 0].log()))
    want = rows(kl(td.Gamma(K, 1 / THETA), td.Gamma(K.flip(0), 1 / THETA.flip(0))))
    close(Gamma(K, THETA).kl(Gamma(K.flip(0), THETA.flip(0))), want, 1e-10)
    close(Gamma(K, 2.0).kl(Gamma(K, 1.0)), rows(kl(td.Gamma(K, tensor(0.5)), td.Gamma(K, tensor(1.0)))), 1e-10)


def test_divergence_of_categories_has_a_gradient_where_both_are_zero() -> None:
    p = torch.tensor([[0.0, 0.4, 0.6]], dtype=torch.float64)
    q = torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    Categorical(p).kl(Categorical(q)).sum().backward()
    close(q.grad, tensor(0.0, -0.8, -1.2))
    assert float(Categorical(p).kl(Categorical(p.flip(1)))) == float("inf")


def test_samples_have_the_mean_and_variance() -> None:
    n = 60_000
    zero = torch.zeros(n, dtype=torch.float64)
    for law, mean, var in (
        (Normal(zero + 2, 0.5), 2.0, 0.25),
        (Normal(zero + 2, zero + 0.5), 2.0, 0.25),
        (Gamma(zero + 3, 0.5, -1.0), 0.5, 0.75),
        (Categorical(tensor(0.2, 0.3, 0.5).expand(n, 3)), 1.3, 0.61),
    ):
        x = law.sample(Noise(0)).double()
        assert abs(x.mean() - mean) < 4 * (var / n) ** 0.5
        assert abs(x.var() - var) < 4 * 3 * var / n**0.5
    close(Gamma(zero[:2] + 3, 0.5, -1.0).mean, 0.5)
    assert Categorical(PROBS).mean is PROBS


def test_a_float_and_a_tensor_spread_draw_the_same() -> None:
    close(Normal(MEAN, 0.7).sample(Noise(3)), Normal(MEAN, torch.full_like(MEAN, 0.7)).sample(Noise(3)))
    close(Normal(MEAN).sample(Noise(3)), MEAN + Noise(3).normal(MEAN))


def test_a_point_draws_nothing() -> None:
    noise = Noise(3)
    assert torch.equal(Normal(MEAN, 0.0).sample(noise), MEAN)
    assert torch.equal(noise.normal(MEAN), Noise(3).normal(MEAN))


def test_errors() -> None:
    normals, categories, gammas = Normal(MEAN, STD), Categorical(PROBS), Gamma(K)
    for law, other, name in (
        (normals, categories, "KL of a Normal is known to a Normal only, got Categorical"),
        (categories, gammas, "KL of a Categorical is known to a Categorical only, got Gamma"),
        (gammas, normals, "KL of a Gamma is known to a Gamma only, got Normal"),
    ):
        with pytest.raises(TypeError, match=name):
            law.kl(other)
    for std in (0.0, torch.zeros_like(MEAN), STD * (STD.max() > STD)):
        with pytest.raises(ValueError, match="a density needs std > 0 everywhere"):
            Normal(MEAN, std).log_prob(X)
