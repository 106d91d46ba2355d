"""A small real training: the loss comes down to the least that the world allows."""

from __future__ import annotations

import torch

from sfumato.noise import Noise, Seeds
from sfumato.processes import EDM
from sfumato.recipes.edm import Recipe
from sfumato.training import Denoising, LogNormal, edm_weight, warmup_decay
from sfumato.training.runs import run
from sfumato.worlds import MixtureWorld

WORLD = MixtureWorld(
    torch.tensor([0.5, 0.3, 0.2]),
    torch.tensor([[0.6, 0.4], [-0.7, 0.1], [0.1, -0.8]]),
    0.01 * torch.eye(2).expand(3, 2, 2),
    event=(1, 2),
)


class Draws:
    """Fresh draws of the world."""

    def __len__(self):
        return 1000

    def batch(self, items, noise):
        return WORLD.sample(len(items), noise_of(noise)), None


def noise_of(seeds: Seeds) -> Noise:
    return Noise(seeds.streams[0].seed)


def test_a_mixture_of_points_is_learned_to_within_a_few_percent_of_the_best(tmp_path):
    recipe = Recipe(channels=1, widths=(32,), blocks=1, dims=1, sigma_data=0.55)
    torch.manual_seed(0)
    objective = recipe.objective(recipe.model())
    x0 = WORLD.sample(4096, Noise(1))

    def loss(denoiser):
        with torch.no_grad():
            return float(Denoising(denoiser, LogNormal(), edm_weight(0.55))(x0, None, Noise(2)).mean())

    best, first = loss(WORLD.denoiser(EDM())), loss(objective.denoiser)
    schedule = warmup_decay(300, warmup=20, decay=0.5)
    for _ in run(tmp_path, {}, objective, Draws(), steps=300, batch=64, rate=4e-3, ema_decay=0.98, schedule=schedule):
        pass
    last = loss(objective.denoiser)
    assert best < last < best + 0.1 * (first - best), f"from {first:.3f} to {last:.3f}, the best is {best:.3f}"
