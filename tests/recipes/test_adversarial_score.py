"""Adversarial score matching: the two losses by hand, and CAS on a ladder that may be refined."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from worlds_for_tests import close, full_world, moments, normal, point_world, tensor

from sfumato import Noise
from sfumato.recipes.adversarial_score import Recipe
from sfumato.samplers import CAS
from sfumato.training import Denoising


class Critic(nn.Module):
    """Twice the mean of the event, with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(tensor(2.0))
        self.seen: list[torch.Tensor] = []

    def forward(self, x):
        self.seen.append(x)
        return self.gain * x.mean(1, keepdim=True)


def noised(recipe: Recipe, x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(estimate, noise, sigma) of the losses, drawn by hand from the same stream."""
    stream, process = Noise(5), recipe.process()
    t = stream.choice(torch.ones(len(x0), recipe.levels).double()).double() / (recipe.levels - 1)
    sigma, z = process.sigma(t)[:, None], stream.normal(x0)
    return full_world().denoiser(process)(x0 + sigma * z, t).mean, z, sigma


def test_the_generators_loss() -> None:
    """0.5 |sigma s + z|^2 summed, and (Dis(H) - 1)^2 on H held to [0, 1]."""
    recipe, x0, critic = Recipe(levels=4, sigma_max=2.0, sigma_min=0.1, weight=0.7), normal(50, 3), Critic()
    D, z, sigma = noised(recipe, x0)
    score = (D - (x0 + sigma * z)) / sigma**2
    want = 0.5 * (sigma * score + z).square().sum(1) + 0.7 * (2 * D.clamp(0, 1).mean(1) - 1) ** 2
    got = recipe.generator(full_world().denoiser(recipe.process()), critic)(x0, None, Noise(5))
    close(got.detach(), want, 1e-10)
    assert float(critic.seen[0].min()) == 0.0 and float(critic.seen[0].max()) == 1.0
    assert type(recipe.objective(full_world().denoiser(recipe.process()))) is Denoising


def test_the_discriminators_loss() -> None:
    """(Dis(x_0) - 1)^2 + (Dis(H) + 1)^2, and nothing for the denoiser to learn from."""
    recipe, x0, critic = Recipe(levels=4, sigma_max=2.0, sigma_min=0.1), normal(50, 3), Critic()
    D, _, _ = noised(recipe, x0)
    world = full_world()
    world.means = world.means.clone().requires_grad_()
    got = recipe.judge(world.denoiser(recipe.process()), critic)(x0, None, Noise(5))
    close(got.detach(), (2 * x0.mean(1) - 1) ** 2 + (2 * D.clamp(0, 1).mean(1) + 1) ** 2, 1e-10)
    got.sum().backward()
    assert critic.gain.grad is not None and world.means.grad is None


def test_the_defaults_are_those_of_cifar() -> None:
    """eta = 5.6e-6 / 0.01^2; five steps a level: 1 - (1 - eta)^(1/5) of 1.15e-6 / 0.01^2, near the released 1.1e-6."""
    assert Recipe().sampler() == CAS(pytest.approx(0.056))
    assert Recipe(refine=5).size() * 1e-4 == pytest.approx(1.15e-6, rel=5e-3)
    assert (1 - Recipe(refine=5).size()) ** 5 == pytest.approx(1 - 0.056)
    for refine in (1, 5):
        recipe = Recipe(refine=refine)
        sigmas = [recipe.process().sigma(t) for t in recipe.times()]
        assert len(sigmas) == refine * 231 + 1
        assert [a / b for a, b in pairwise(sigmas)] == pytest.approx([5000 ** (1 / 231 / refine)] * (231 * refine))


@pytest.mark.parametrize("refine", [1, 3])
def test_the_noise_keeps_to_the_ladder(refine: int) -> None:
    """Data at a point, exact score: the variance at the end is sigma_L^2, refined or not."""
    recipe = Recipe(levels=20, sigma_max=10.0, sigma_min=0.1, epsilon=0.35 * 0.01, refine=refine)
    world = point_world()
    mean, var = moments(world.denoiser(recipe.process()), recipe.sampler(), recipe.times(), world.mean, 10.0)
    close(mean, world.mean, 1e-9)
    close(var, 0.01, 1e-9)


def test_the_network_is_told_no_level() -> None:
    denoiser = Recipe(widths=(8,), blocks=1).model().double()
    x = normal(2, 3, 8, 8)
    a, b = ((denoiser(x, t).mean - x) / Recipe().process().sigma(t) for t in (0.2, 0.7))
    close(a, b, 1e-8)
