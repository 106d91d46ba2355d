"""Processes that revert to an anchor: they begin at it, and their variances solve the equation of their drift."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad, solve_ivp

from sfumato.processes import Anchored, ConstantPull, CosinePull, LinearBeta, LinearPull, Pull, Reverting, entry

SETTINGS = [(1.0, 0.01, 1.0), (2.0, 0.05, 0.5)]
KINDS = [ConstantPull, LinearPull, CosinePull]
PULLS = {  # from the paper: drift rate, and noise rate without its constant
    ConstantPull: lambda g, t: g,
    LinearPull: lambda g, t: g * t,
    CosinePull: lambda g, t: g * (1.0 - math.cos(math.pi * t)),
}


def test_it_begins_at_the_anchor_whatever_is_left_of_the_signal() -> None:
    anchor, like = torch.tensor([[2.0, -1.0]]), torch.zeros(3, 2)
    for inner, std in ((LinearBeta(), 1.0), (ConstantPull(1.0, 0.1, 0.7), math.sqrt(0.49 - 0.01 * math.exp(-2.0)))):
        law = Reverting(inner, scale=0.3, read=entry("image")).bind({"image": anchor}).prior(like)
        assert torch.equal(law.mean, anchor.expand(3, 2))
        assert law.std == pytest.approx(0.3 * std)
    anchored, reverting = Anchored(inner, anchor), Reverting(inner, anchor)
    assert torch.equal(anchored.marginal(like, 0.4).mean, reverting.marginal(like, 0.4).mean)
    assert float(anchored.prior(like).mean[0, 0]) == pytest.approx(2.0 * (1.0 - math.exp(-1.0)))
    with pytest.raises(ValueError, match="no anchor yet"):
        Reverting(inner).prior(like)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gamma", "low", "high"), SETTINGS)
def test_the_variance_solves_the_equation_of_the_drift(kind: type[Pull], gamma: float, low: float, high: float) -> None:
    """d s^2 / dt = -2 pull s^2 + c^2 (low r^t)^2, by another integrator, with c of the papers' normalisation."""
    process, pull, r = kind(gamma, low, high), PULLS[kind], high / low
    raw = solve_ivp(
        lambda t, s2: -2.0 * pull(gamma, t) * s2 + (low * r**t) ** 2, (0.0, 1.0), [0.0], rtol=1e-11, atol=1e-16,
        dense_output=True,
    ).sol  # fmt: skip
    c2 = 2.0 * (gamma + math.log(r)) if kind is ConstantPull else high**2 / float(raw(1.0)[0])
    for t in (0.01, 0.3, 0.75, 1.0):
        assert process.sigma(t) ** 2 == pytest.approx(c2 * float(raw(t)[0]), rel=1e-7)
        f, g = process.sde(t)
        assert f == pytest.approx(-pull(gamma, t)) and g == pytest.approx(math.sqrt(c2) * low * r**t, rel=1e-7)
        assert process.alpha(t) == pytest.approx(math.exp(-quad(lambda u: pull(gamma, u), 0.0, t)[0]), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_ends_tensors_and_rates(kind: type[Pull]) -> None:
    process = kind(1.3, 0.02, 0.8)
    end = 0.8**2 - 0.02**2 * math.exp(-2.6) if kind is ConstantPull else 0.8**2
    assert process.sigma(1.0) ** 2 == pytest.approx(end, rel=1e-12)
    assert process.sigma(0.0) == 0.0 and process.alpha(0.0) == 1.0
    t = torch.tensor([0.0, 1e-6, 0.2, 1.0], dtype=torch.float64)
    for name in ("alpha", "sigma", "pull", "pulled"):
        f = getattr(process, name)
        assert torch.allclose(f(t), torch.tensor([f(float(u)) for u in t], dtype=torch.float64), rtol=1e-12, atol=0.0)
    for at in (0.1, 0.6):
        h = 1e-5
        for got, f in zip(process.rates(at), (process.alpha, process.sigma), strict=True):
            assert got == pytest.approx((f(at + h) - f(at - h)) / (2 * h), rel=1e-7)
        several = process.rates(torch.tensor([at], dtype=torch.float64))
        assert [float(v) for v in several] == pytest.approx(list(process.rates(at)), rel=1e-12)


def test_settings_that_mean_nothing_are_refused() -> None:
    for bad in ((0.0, 0.01, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match="gamma > 0 and 0 < sigma_min < sigma_max"):
            ConstantPull(*bad)
