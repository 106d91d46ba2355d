"""NCSN, and what NCSNv2 shares with it: the ladder, the two conventions of the step, the networks."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from worlds_for_tests import Impulses, close, full_world, normal, tensor

from sfumato import GaussianWorld, Measurement, Noise, sample
from sfumato.operators import Mask
from sfumato.recipes import ncsn, ncsnv2
from sfumato.samplers import Held, Langevin


@pytest.mark.parametrize(("halved", "card"), [(True, 0.05314), (False, 0.05164)])
def test_output_variance_of_the_card(halved: bool, card: float) -> None:
    """Data N(0, 0.05), start variance 1/12, every default: the formula's step and the code's."""
    recipe = ncsn.Recipe(halved=halved)
    D = GaussianWorld(tensor(0.0), torch.full((1, 1), 0.05, dtype=torch.float64)).denoiser(recipe.process())
    noise, rows = Impulses(), 1002
    x1 = math.sqrt(1 / 12) * noise.normal(torch.zeros(rows, 1, dtype=torch.float64))
    out = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    assert noise.drawn == 1 + 10 * 100
    assert float(out.square().sum()) == pytest.approx(card, abs=6e-6)


@pytest.mark.parametrize(("recipe", "size", "moves"), [(ncsn.Recipe(), 0.1, 100), (ncsnv2.Recipe(), 0.062, 5)])
def test_samplers(recipe: ncsn.Recipe | ncsnv2.Recipe, size: float, moves: int) -> None:
    sampler = recipe.sampler()
    assert isinstance(sampler, Langevin)
    assert (sampler.size, sampler.moves) == (pytest.approx(size), moves)


@pytest.mark.parametrize(
    ("recipe", "first", "levels", "gamma"),
    [(ncsn.Recipe(), 1.0, 10, 100 ** (1 / 9)), (ncsnv2.Recipe(), 50.0, 232, 1.03756)],
)
def test_ladders(recipe: ncsn.Recipe | ncsnv2.Recipe, first: float, levels: int, gamma: float) -> None:
    """The first level is there twice: a sampler moves at the level it arrives at."""
    sigmas = [recipe.process().sigma(t) for t in recipe.times()]
    assert len(sigmas) == levels + 1 and sigmas[0] == sigmas[1]
    assert (sigmas[0], sigmas[-1]) == pytest.approx((first, 0.01))
    assert [a / b for a, b in pairwise(sigmas[1:])] == pytest.approx([gamma] * (levels - 1), rel=1e-5)


def test_sampling_starts_from_uniform_noise() -> None:
    x = ncsn.Recipe().start(torch.zeros(2000, 3, dtype=torch.float64), Noise(0))
    assert 0.0 <= float(x.min()) < 1e-3 and 0.999 < float(x.max()) < 1.0
    assert float(x.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 6000))


def test_training_visits_the_levels_with_weight_sigma_squared() -> None:
    """The exact score's loss is v / (v + sigma^2) at each level: its mean over the ladder."""
    world, n = GaussianWorld(tensor(0.0), torch.full((1, 1), 0.25, dtype=torch.float64)), 20000
    recipe = ncsn.Recipe(levels=4, sigma_min=0.1)
    loss = recipe.objective(world.denoiser(recipe.process()))(world.sample(n, Noise(0)), None, Noise(1))
    sigmas = (1.0, 10 ** (-1 / 3), 10 ** (-2 / 3), 0.1)
    exact = sum(0.25 / (0.25 + sigma**2) for sigma in sigmas) / 4
    assert float(loss.mean()) == pytest.approx(exact, abs=4 * float(loss.std()) / math.sqrt(n))


class Heard(nn.Module):
    """Answers tanh(u) and keeps what it was told."""

    def forward(self, u, level, cond):
        self.told = u, level
        return u.tanh()


@pytest.mark.parametrize("t", [0.3, tensor(0.3, 0.3)], ids=["float", "tensor"])
def test_networks_of_the_papers(t: float | torch.Tensor) -> None:
    """NCSN's output is the score at the level it is told; NCSNv2's is divided by sigma, and it is told nothing."""
    x = normal(2, 3, 8, 8)
    for module, scaled in ((ncsn, False), (ncsnv2, True)):
        recipe = module.Recipe(widths=(8,), blocks=1)
        denoiser, process = recipe.model(), recipe.process()
        denoiser.net = heard = Heard()
        sigma = process.sigma(0.3)
        close(process.score(x, denoiser(x, t).mean, 0.3), x.tanh() / (sigma if scaled else 1.0), 1e-8)
        u, level = heard.told
        close(u, x)
        close(level, 0.0 if scaled else -2.0 * math.log(sigma), 1e-9)


def test_inpainting_holds_one_draw_a_level() -> None:
    """Known pixels end at y + sigma_L z, z the draw of the last level."""
    recipe = ncsn.Recipe(levels=3, moves=4)
    m = Measurement(Mask(tensor(1.0, 0.0, 1.0).bool()), tensor(0.2, 0.0, 0.7).expand(4, 3), 0.0)
    sampler = recipe.conditioned(m)
    assert isinstance(sampler, Held) and sampler.moves == 4 and sampler.sampler == Langevin(0.1, 1)
    stream, draws = Noise(0), []
    for _ in range(15):  # a draw for each of three levels, then four moves
        draws.append(stream.normal(torch.zeros(4, 3, dtype=torch.float64)))
    D = full_world().denoiser(recipe.process())
    x = sample(D, sampler, x1=normal(4, 3), times=recipe.times(), noise=Noise(0))
    close(x[:, [0, 2]], (tensor(0.2, 0.0, 0.7) + 0.01 * draws[10])[:, [0, 2]])
