"""Score matching: the constant between its forms, the gradient between them, the energy of the autoencoder."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import close, full_world, mixture_world, normal

from sfumato import recipes
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.likelihood import rademacher, with_divergence
from sfumato.noise import Noise
from sfumato.processes import LinearBeta
from sfumato.training import DenoisingScore, ImplicitScore
from sfumato.worlds import GaussianWorld, MixtureWorld

Recipe = recipes.load("dsm").Recipe


@pytest.mark.parametrize("sigma", [0.4, 1.5])
def test_the_least_loss_is_the_constant(sigma: float) -> None:
    """x ~ N(0, s^2) in 3 dimensions: C = (d / 2) (1 / sigma^2 - 1 / (s^2 + sigma^2)), at the exact score."""
    recipe, s2 = Recipe(sigma=sigma), 0.49
    world = GaussianWorld(torch.zeros(3, dtype=torch.float64), s2 * torch.eye(3, dtype=torch.float64))
    x0 = world.sample(20_000, Noise(0))
    denoiser = world.denoiser(recipe.process())
    loss = recipe.objective(denoiser)(x0, None, Noise(1))
    assert abs(float(loss.mean()) - 1.5 * (1 / sigma**2 - 1 / (s2 + sigma**2))) < 4 * float(loss.std()) / 141
    # J_ISM at the exact score is -0.5 E |score|^2 = -(d / 2) / (s^2 + sigma^2).
    loss = recipe.implicit(denoiser)(x0, None, Noise(1))
    assert abs(float(loss.mean()) + 1.5 / (s2 + sigma**2)) < 4 * float(loss.std()) / 141


@pytest.mark.parametrize("probes", [0, 3])
def test_the_forms_differ_by_what_no_model_moves(probes: int) -> None:
    """J_DSM - J_ISM = (d / 2) / sigma^2 for any psi: here two wrong ones on a mixture, with any alpha and sigma."""
    process, t = LinearBeta(), 0.3
    x0 = mixture_world().sample(20_000, Noise(0))
    for world in (full_world(), GaussianWorld(normal(3), torch.eye(3, dtype=torch.float64))):
        psi = world.denoiser(process)
        gap = DenoisingScore(psi, t)(x0, None, Noise(1)) - ImplicitScore(psi, t, probes)(x0, None, Noise(1))
        want = 1.5 / process.sigma(t) ** 2
        assert abs(float(gap.mean()) - want) < 4 * float(gap.std()) / 141
        assert float(gap.std()) / 141 < 0.05 * want


class Shrink(Denoiser):
    """D = a x_t, a learned."""

    def __init__(self, process) -> None:
        super().__init__()
        self.process, self.a = process, torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(self, xt, t, cond=None):
        return Estimate(self.a * xt)


def test_both_forms_have_one_gradient() -> None:
    """psi = (a - 1) x / sigma^2 on N(0, s^2): dJ/da = d ((a - 1) V / sigma^2 + 1) / sigma^2, V = s^2 + sigma^2."""
    recipe = Recipe(sigma=0.8)
    x0 = 0.6 * normal(40_000, 2)
    V, s2 = 0.36 + 0.64, 0.64
    want = 2 * (-0.8 * V / s2 + 1) / s2
    for kind in (recipe.objective, recipe.implicit, lambda d: recipe.implicit(d, 1)):
        denoiser = Shrink(recipe.process())
        kind(denoiser)(x0, None, Noise(1)).mean().backward()
        assert abs(float(denoiser.a.grad) - want) < 0.05 * abs(want) + 0.03
    with torch.no_grad():
        assert not recipe.implicit(Shrink(recipe.process()))(x0[:4], None, Noise(1)).requires_grad


def test_the_autoencoder_is_the_gradient_of_its_energy() -> None:
    recipe = Recipe(dim=3, hidden=5, sigma=0.3)
    model = recipe.model().double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.3 * normal(*p.shape, seed=i)
    x = normal(4, 3).requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(x).sum(), x)
    close(-slope, recipe.process().score(x, model(x, 1.0).mean, 1.0).detach(), 1e-10)
    assert model.weight.shape == (5, 3) and recipe.process().sigma(0.3) == pytest.approx(0.3)


def test_training_lowers_the_loss_towards_the_constant() -> None:
    """Points of a ring: 300 steps take off half of what the loss has above that of the exact denoiser of the points."""
    recipe = Recipe(sigma=0.5)
    angle = 2 * math.pi * Noise(0).uniform(torch.empty(256))
    x0 = torch.stack([angle.cos(), angle.sin()], 1)
    model = recipe.model()
    objective, rate = recipe.objective(model), torch.optim.Adam(model.parameters(), 0.05)
    first = float(objective(x0, None, Noise(9)).mean().detach())
    for step in range(300):
        rate.zero_grad()
        objective(x0, None, Noise(step)).mean().backward()
        rate.step()
    last = float(objective(x0, None, Noise(9)).mean().detach())
    points = MixtureWorld(torch.ones(256).double(), x0.double(), torch.zeros(256, 2, 2).double())
    best = float(recipe.objective(points.denoiser(recipe.process()))(x0, None, Noise(9)).mean())
    assert best - 0.05 < last < best + 0.5 * (first - best)


def test_divergence_of_a_linear_map() -> None:
    """div A x = tr A; Hutchinson's variance for a symmetric A is 2 sum_{i != j} a_ij^2, 0 for a diagonal one."""
    A = normal(4, 4)
    A = A + A.T
    x = normal(5000, 4, seed=1)
    v, div = with_divergence(lambda x: x @ A, x)
    close(div, A.trace())
    close(v, x @ A)
    _, rough = with_divergence(lambda x: x @ A, x, rademacher(x, Noise(0)))
    spread = 2 * (A.square().sum() - A.diagonal().square().sum())
    assert abs(float(rough.mean() - A.trace())) < 4 * math.sqrt(float(spread) / 5000)
    assert abs(float(rough.var() / spread) - 1) < 0.15
    _, exact = with_divergence(lambda x: x * A.diagonal(), x, rademacher(x, Noise(0), 2))
    close(exact, A.trace())
