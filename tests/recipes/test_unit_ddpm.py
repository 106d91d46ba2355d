"""UNIT-DDPM: who gets which gradient, and the translation of Gaussians by its recursion."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.recipes.unit_ddpm import Recipe, Translator, Unpaired
from sfumato.samplers import sample
from sfumato.samplers.translate import Translate
from sfumato.training import Steps
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,)}
PROCESS = Recipe().process()
MA, V, P, Q = 0.3, 0.4, -1.5, 0.2  # x^A ~ N(MA, V), x^B = P x^A + Q


class Exact(Denoiser):
    """E of one domain's x_0 given both noisy pictures, where the other is slope x + shift of it."""

    def __init__(self, mean: float, var: float, slope: float, shift: float) -> None:
        super().__init__()
        self.process, self.law, self.calls = PROCESS, (mean, var, slope, shift), 0

    def coefficients(self, t: float) -> tuple[float, float, float]:
        """(c0, c1, c2) of D = c0 + c1 x_t + c2 other_t."""
        mean, var, slope, shift = self.law
        a, s = PROCESS.alpha(t), PROCESS.sigma(t)
        precision = 1 / var + a * a / s**2 + (a * slope) ** 2 / s**2
        c1, c2 = a / s**2 / precision, a * slope / s**2 / precision
        return mean / var / precision - c2 * a * shift, c1, c2

    def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
        self.calls += 1
        c0, c1, c2 = self.coefficients(t)
        return Estimate(c0 + c1 * xt + c2 * cond["image"])


class Map(torch.nn.Module):
    def __init__(self, slope: float, shift: float) -> None:
        super().__init__()
        self.slope, self.shift = (torch.nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (slope, shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slope * x + self.shift


def exact(release: float = 0.0) -> Translator:
    a, b = Exact(MA, V, P, Q), Exact(P * MA + Q, P * P * V, 1 / P, -Q / P)
    return Translator(a, b, Map(1 / P, -Q / P), Map(P, Q), release=release)


def recursion(D: Translator, times: tuple[float, ...]) -> tuple[float, float, float]:
    """(m0, m1, var): a draw given y is N(m0 + m1 y, var), by the published step

    x_s = (x_t - beta / sigma_t eps_hat) / sqrt(1 - beta) + sqrt(beta) z, with eps_hat linear in x_t and in a fresh
    x^B_t = alpha y + sigma e.
    """
    m0, m1, var = 0.0, 0.0, 1.0
    for t, s in pairwise(times):
        a, sigma = PROCESS.alpha(t), PROCESS.sigma(t)
        keep = (a / PROCESS.alpha(s)) ** 2
        beta = 1 - keep
        c0, c1, c2 = D.a.coefficients(t)
        k = beta / sigma / math.sqrt(keep)
        on_x, on_b = 1 / math.sqrt(keep) - k * (1 - a * c1) / sigma, k * a * c2 / sigma
        m0, m1 = on_x * m0 + k * a * c0 / sigma, on_x * m1 + on_b * a
        var = on_x**2 * var + (on_b * sigma) ** 2 + (beta if s > 0 else 0.0)
    return m0, m1, var


def translated(y: torch.Tensor, times: tuple[float, ...]) -> torch.Tensor:
    x1 = Noise(0).normal(torch.empty(len(y), 2).double())
    x1[:, 1:] = PROCESS.perturb(y, 1.0, x1[:, 1:])
    return sample(exact().given({"image": y}), Translate(y), x1=x1, times=times, noise=Noise(1))[:, 0]


def test_a_translation_of_gaussians_follows_its_recursion() -> None:
    n, y, times = 40_000, 0.9, Recipe().times(60)
    x = translated(torch.full((n, 1), y).double(), times)
    m0, m1, var = recursion(exact(), times)
    mean = m0 + m1 * y
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))
    assert mean == pytest.approx((y - Q) / P, abs=0.05) and 0.0 < var < 0.05 * V  # near the true answer, with a spread


@pytest.mark.parametrize("steps", [60, 1000])
def test_the_law_of_a_is_nearly_kept(steps: int) -> None:
    """All of B translated is nearly N(MA, V), and not that law itself: x^B is noised anew at each step."""
    times = Recipe().times(steps)
    m0, m1, var = recursion(exact(), times)
    total = (m1 * P) ** 2 * V + var
    assert m0 + m1 * (P * MA + Q) == pytest.approx(MA, abs=0.01)
    assert total == pytest.approx(V, rel=0.1) and abs(total / V - 1) > 1e-3
    if steps == 60:
        n = 20_000
        y = P * MA + Q + abs(P) * math.sqrt(V) * Noise(2).normal(torch.empty(n, 1).double())
        assert float(translated(y, times).var()) == pytest.approx(total, rel=4 * math.sqrt(2 / n))


def test_the_other_picture_is_noised_anew_above_the_release_and_denoised_below() -> None:
    """By hand on three steps: both halves from the states of one moment; fB runs at and below the release alone."""
    times, release = (1.0, 0.5, 0.2, 0.0), 0.3
    D, y = exact(release), torch.tensor([[0.7]]).double()
    x1 = torch.tensor([[0.4, -0.3]]).double()
    got = sample(D.given({"image": y}), Translate(y, release), x1=x1, times=times, noise=Noise(5))
    assert (D.a.calls, D.b.calls) == (3, 1)
    noise, xa, xb = Noise(5), x1[:, :1], x1[:, 1:]
    for t, s in pairwise(times):
        keep = (PROCESS.alpha(t) / PROCESS.alpha(s)) ** 2
        z = noise.normal(x1) if s > 0 else torch.zeros(1, 2).double()

        def moved(x: torch.Tensor, d: torch.Tensor, e: torch.Tensor, t: float = t, keep: float = keep) -> torch.Tensor:
            eps = (x - PROCESS.alpha(t) * d) / PROCESS.sigma(t)
            return (x - (1 - keep) / PROCESS.sigma(t) * eps) / math.sqrt(keep) + math.sqrt(1 - keep) * e

        da, db = D.a(xa, t, {"image": xb}).mean, D.b(xb, t, {"image": xa}).mean
        xa, xb = moved(xa, da, z[:, :1]), moved(xb, db if t <= release else y, z[:, 1:])
        if s > release:
            xb = PROCESS.alpha(s) * y + PROCESS.sigma(s) * noise.normal(y)
    assert torch.allclose(got, torch.cat([xa, xb], 1), atol=1e-10)


def test_each_network_learns_by_its_own_terms() -> None:
    """The published losses, term by term, with two backward passes: noise nets on detached translations, translators
    through noise nets that stay."""
    recipe = Recipe(**SMALL)
    torch.manual_seed(0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    xa, xb = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    total = recipe.objective(D)(xa, {"image": xb}, Noise(7)).sum()
    total.backward()
    got = {name: p.grad.clone() for name, p in D.named_parameters() if p.grad is not None}
    D.zero_grad()

    noise = Noise(7)
    t, u = (Steps(1000)(PROCESS, 3, noise) for _ in range(2))
    ea, eb, ea2, eb2 = (noise.normal(xa) for _ in range(4))
    as_b, as_a = D.to_b(xa), D.to_a(xb)

    def noised(x: torch.Tensor, at: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        a, s = (f(at).float().reshape(3, 1, 1, 1) for f in (PROCESS.alpha, PROCESS.sigma))
        return a * x + s * e

    def error(f: Denoiser, x: torch.Tensor, other: torch.Tensor, at: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        a, s = (c(at).float().reshape(3, 1, 1, 1) for c in (PROCESS.alpha, PROCESS.sigma))
        return ((x - a * f(x, at, {"image": other}).mean) / s - e).square().mean((1, 2, 3)).sum()

    of_noise = error(D.a, noised(xa, t, ea), noised(as_b.detach(), t, eb2), t, ea)
    of_noise = of_noise + error(D.b, noised(xb, u, eb), noised(as_a.detach(), u, ea2), u, eb)
    nets = [*D.a.parameters(), *D.b.parameters()]
    maps = [*D.to_a.parameters(), *D.to_b.parameters()]
    assert not any(
        torch.autograd.grad(of_noise, maps, retain_graph=True, allow_unused=True)[i] is not None for i in (0, 1)
    )
    for p, g in zip(nets, torch.autograd.grad(of_noise, nets, allow_unused=True), strict=True):
        p.grad = g
    of_maps = error(D.a, noised(xa, t, ea), noised(as_b, t, eb2), t, ea)
    of_maps = of_maps + error(D.b, noised(xb, u, eb), noised(as_a, u, ea2), u, eb)
    of_maps = of_maps + error(D.a, noised(as_a, u, ea2), noised(xb, u, eb), u, ea2)
    of_maps = of_maps + error(D.b, noised(as_b, t, eb2), noised(xa, t, ea), t, eb2)
    trips = (D.to_a(as_b) - xa).abs().mean((1, 2, 3)).sum() + (D.to_b(as_a) - xb).abs().mean((1, 2, 3)).sum()
    of_maps = of_maps + 10.0 * trips
    for p, g in zip(maps, torch.autograd.grad(of_maps, maps, allow_unused=True), strict=True):
        p.grad = g
    want = {name: p.grad for name, p in D.named_parameters() if p.grad is not None}
    assert set(got) == set(want)
    for name, g in got.items():
        assert torch.allclose(g, want[name], rtol=2e-3, atol=1e-4 * float(want[name].abs().max() + 1e-6)), name
    assert float(total.detach()) == pytest.approx(float(of_maps.detach()), rel=1e-4)


def test_round_trips_cost_nothing_for_exact_maps_and_something_for_others() -> None:
    class Zero(Denoiser):
        process = PROCESS

        def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
            return Estimate(torch.zeros_like(xt))

    x, y = torch.rand(4, 1, 3, 3).double(), torch.rand(4, 1, 3, 3).double()

    def loss(a: Map, b: Map, cycle: float) -> torch.Tensor:
        return Unpaired(Translator(Zero(), Zero(), a, b), Steps(1000), cycle)(x, {"image": y}, Noise(0))

    right, wrong = Map(1 / P, -Q / P), Map(1 / P, -Q / P + 0.1)
    there = Map(P, Q)
    assert torch.allclose(loss(right, there, 10.0), loss(right, there, 0.0), atol=1e-9)
    # gA is off by 0.1: gA(gB(x)) by 0.1, gB(gA(y)) by 0.1 |P|
    want = 10.0 * (0.1 + 0.1 * abs(P))
    assert torch.allclose(loss(wrong, there, 10.0) - loss(wrong, there, 0.0), torch.tensor(want).double(), atol=1e-6)


def test_a_model_translates_and_both_networks_are_its_own() -> None:
    fields = {**SMALL, "calls": 5, "release": 500}
    recipe = Recipe(**fields)
    torch.manual_seed(0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model = Model(Affine.unit(), D.eval(), {"recipe": "unit-ddpm", "fields": fields, "event": [1, 8, 8]})
    y = torch.rand(2, 1, 8, 8)
    result = model.enhance(y, samples=2, seed=3)
    assert result.samples.shape == (2, 2, 1, 8, 8) and result.nfe == 5 and "release=0.5" in result.solver
    assert torch.allclose(model.enhance(y, samples=2, seed=3, batch=1).samples, result.samples, atol=1e-5)
    z = 2 * y - 1
    noise = Seeds.keyed(3, [(0, 0), (1, 0)])
    x1 = noise.normal(torch.empty(2, 2, 8, 8))
    x = sample(
        recipe.guide(D).given({"image": z}), Translate(z, 0.5), x1=x1, times=recipe.times(), noise=noise
    )  # fmt: skip
    assert torch.allclose(result.samples[0], x[:, :1] * 0.5 + 0.5, atol=1e-5)
    state = torch.randn(2, 2, 8, 8)
    both = D(state, 0.4, {"image": z}).mean
    assert torch.equal(both[:, :1], D.a(state[:, :1], 0.4, {"image": state[:, 1:]}).mean)
    assert torch.equal(both[:, 1:], D.b(state[:, 1:], 0.4, {"image": state[:, :1]}).mean)
    assert torch.equal(D(state, 0.6, {"image": z}).mean[:, 1:], z)
    assert not torch.equal(D(state, 0.6).mean[:, 1:], z)
    assert recipe.guide(D)(9 * state, 0.01).mean.abs().max() <= 1.0


def test_the_release_is_a_step() -> None:
    assert Recipe().model().release == pytest.approx(1e-3)
    for wrong in (-1, 1001):
        with pytest.raises(ValueError, match="the release time is a step"):
            Recipe(release=wrong)
