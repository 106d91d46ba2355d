"""SGLD: its step, its stationary law on a normal, its convergence to the posterior of a conjugate model."""

from __future__ import annotations

import math
from itertools import islice, pairwise

import pytest
import torch
from torch import Tensor
from worlds_for_tests import Impulses, close, normal, tensor

from sfumato import Noise, Seeds
from sfumato.samplers import Langevin
from sfumato.samplers.sgld import SGLD, Draw, average, minibatch


def test_a_fixed_step_on_a_normal_is_the_ar1_of_theory() -> None:
    """Factor 1 - e / (2 s^2), and the variance tends to s^2 / (1 - e / (4 s^2)); at e = 4 s^2 it no longer shrinks."""
    m, s2, e, steps = 0.7, 0.5, 0.3, 200
    x = torch.full((steps + 2, 1), m, dtype=torch.float64)
    x[0] += 1.5
    noise = Impulses()
    draws = list(SGLD(e, decay=0.0, steps=steps).chain(lambda w: (m - w) / s2, x, noise))
    factor = 1 - e / (2 * s2)
    assert len(draws) == steps and all(draw.size == e for draw in draws)
    close(draws[9].w[0], m + 1.5 * factor**10)
    settled = ((draws[-1].w[1:] - m) ** 2).sum()
    close(settled, s2 / (1 - e / (4 * s2)), 1e-10)
    edge = list(islice(SGLD(4 * s2, decay=0.0, steps=3).chain(lambda w: (m - w) / s2, x[:5], Impulses()), 2))
    close((edge[-1].w[0] - m).abs(), 1.5)


def test_it_is_langevin_with_twice_the_step() -> None:
    """One move at a level of sigma = 1 around a denoiser whose score is known."""
    from sfumato import GaussianWorld
    from sfumato.processes import EDM

    process = EDM(1.0, 80.0)
    world = GaussianWorld(tensor(0.2), torch.full((1, 1), 0.5, dtype=torch.float64))
    x = normal(4, 1)
    score = world.marginal(process, 0.0).score
    (draw, *_) = SGLD(0.2, decay=0.0, steps=2).chain(score, x, Noise(3))
    close(draw.w, Langevin(0.1, 1).step(world.denoiser(process), x, 0.0, 0.0, None, Noise(3))[0], 1e-10)


def test_steps_decay_as_a_power_between_the_stated_ends() -> None:
    """e_k = a (b + k)^-gamma: e^(-1 / gamma) is linear in k."""
    sizes = SGLD(0.01, 0.0001, 0.55, 100).sizes()
    assert (sizes[0], sizes[-1], len(sizes)) == (pytest.approx(0.01), pytest.approx(0.0001), 100)
    roots = [e ** (-1 / 0.55) for e in sizes]
    assert {round((b - a) / (roots[1] - roots[0]), 9) for a, b in pairwise(roots)} == {1.0}
    assert SGLD(0.3, decay=0.0, steps=4).sizes() == (0.3,) * 4
    default = SGLD()
    assert (default.first, default.last, default.decay, default.steps) == (0.01, 0.0001, 0.55, 10000 * 100)


def conjugate(n: int) -> tuple[Tensor, float, float]:
    """(data, posterior mean, posterior variance) for w ~ N(0, 2), y_i ~ N(w, 1)."""
    y = 0.8 + normal(n, 1, seed=4)
    var = 1 / (1 / 2 + n)
    return y, var * float(y.sum()), var


def log_prior(w: Tensor) -> Tensor:
    return -(w**2).sum(1) / 4


def log_likelihood(w: Tensor, y: Tensor) -> Tensor:
    return -0.5 * ((y - w[:, None, :]) ** 2).sum((1, 2))


def test_minibatch_gradients_are_those_of_the_posterior_in_the_mean() -> None:
    """Over a pass the disjoint thirds average to it; with all data it is exact; rows of Seeds draw for themselves."""
    y, mean, var = conjugate(6)
    w = normal(3, 1)
    exact = (mean - w) / var
    close(minibatch(log_prior, log_likelihood, y, 6, Noise(0))(w), exact)
    score = minibatch(log_prior, log_likelihood, y, 2, Noise(1))
    chosen = Noise(1).permutation(6)[:2]
    close(score(w), -w / 2 + 3 * (y[chosen].sum() - 2 * w))
    many = torch.stack([score(w) for _ in range(600)])
    assert bool(((many.mean(0) - exact).abs() < 4 * many.std(0) / math.sqrt(600)).all())
    rows = minibatch(log_prior, log_likelihood, y, 2, Seeds([5, 6, 7]))(w)
    for i in range(3):
        close(rows[i : i + 1], minibatch(log_prior, log_likelihood, y, 2, Seeds([5 + i]))(w[i : i + 1]))
    for wrong in (0, 7):
        with pytest.raises(ValueError, match=f"holds 1 to 6 of them, got {wrong}"):
            minibatch(log_prior, log_likelihood, y, wrong, Noise(0))


def test_the_weighted_average_converges_to_the_posterior() -> None:
    """64 chains on minibatches of 2 out of 20: the mean, and with it the spread that M / n decides."""
    y, mean, var = conjugate(20)
    score = minibatch(log_prior, log_likelihood, y, 2, Noise(1))
    sampler = SGLD(0.02, 0.0005, 0.55, 800)
    w = mean + torch.zeros(256, 1, dtype=torch.float64)
    moments = average(sampler.chain(score, w, Noise(2)), lambda w: torch.cat([w, (w - mean) ** 2], 1), skip=80)
    first, second = moments.T
    # 256 independent chains; the batch, shared by them, adds one more common term
    assert float(first.mean()) == pytest.approx(mean, abs=0.02)
    assert float(second.mean()) == pytest.approx(var, rel=0.12)


def test_averages_are_weighted_by_the_step() -> None:
    draws = [Draw(tensor(1.0), 0.5), Draw(tensor(2.0), 0.3), Draw(tensor(6.0), 0.1)]
    close(average(iter(draws), lambda w: w**2), (0.5 * 1 + 0.3 * 4 + 0.1 * 36) / 0.9)
    close(average(iter(draws), lambda w: w, skip=1), (0.6 + 0.6) / 0.4)
    with pytest.raises(ValueError, match="no longer than the 3 states"):
        average(iter(draws), lambda w: w, skip=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": 0.1, "last": 0.1}, "first > last > 0, got 0.1 and 0.1"),
        ({"last": 0.0}, "first > last > 0, got 0.01 and 0.0"),
        ({"decay": -0.1}, "decay >= 0"),
        ({"first": 0.0, "decay": 0.0}, "first > 0"),
        ({"steps": 1}, "steps >= 2"),
    ],
)
def test_settings_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGLD(**settings)
