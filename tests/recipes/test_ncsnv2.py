"""NCSNv2: the rules that fit a ladder to data, against their definitions and the paper's own ladders."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from worlds_for_tests import close, normal, tensor

from sfumato.recipes import ncsnv2


def test_rule_one_is_the_largest_distance() -> None:
    x = normal(6, 2, 3)
    assert ncsnv2.largest_distance(x) == pytest.approx(max(float((a - b).norm()) for a, b in combinations(x, 2)))


def test_rule_two_gives_the_ladders_of_the_paper() -> None:
    """C = 0.567 for CIFAR-10 and the same for CelebA 64, bedroom 128, FFHQ 256; 0.869 for church at 64 pixels."""
    assert ncsnv2.overlap(1.03756, 3072) == pytest.approx(0.567, abs=5e-4)
    public = ((90, 500, 64, 0.567), (190, 1086, 128, 0.566), (348, 2311, 256, 0.567), (140, 788, 64, 0.869))
    for first, levels, side, card in (*public, (140, 788, 96, 0.566)):
        gamma = (first / 0.01) ** (1 / (levels - 1))
        assert ncsnv2.overlap(gamma, 3 * side**2) == pytest.approx(card, abs=5e-4)


@pytest.mark.parametrize("d", [5, 100, 3072])
def test_rule_two_is_solved(d: int) -> None:
    """With the definition's own Phi, and a wider ratio overlapping less."""
    law = torch.distributions.Normal(tensor(0.0), tensor(1.0))
    for share in (0.5, 0.3):
        gamma = ncsnv2.ratio(d, share)
        shift = math.sqrt(2 * d) * (gamma - 1)
        close(law.cdf(tensor(shift + 3 * gamma)) - law.cdf(tensor(shift - 3 * gamma)), share, 1e-9)
    assert ncsnv2.ratio(d, 0.5) < ncsnv2.ratio(d, 0.3)


def test_rule_two_needs_dimensions() -> None:
    with pytest.raises(ValueError, match=r"in 4 dimensions shells overlap by more than 0.5"):
        ncsnv2.ratio(4)


@pytest.mark.parametrize(("size", "gamma", "moves"), [(0.062, 1.03756, 5), (0.3, 1.5, 1), (0.9, 2.0, 3)])
def test_rule_four_is_the_variance_after_the_moves(size: float, gamma: float, moves: int) -> None:
    """Data at a point: V <- (1 - e)^2 V + 2 e in units of sigma_i^2, from gamma^2."""
    var = gamma**2
    for _ in range(moves):
        var = (1 - size) ** 2 * var + 2 * size
    assert ncsnv2.variance_ratio(size, gamma, moves) == pytest.approx(var, rel=1e-12)


def test_rule_four_gives_the_steps_of_the_paper() -> None:
    """6.184e-6 and the ratio 1.0555 for CIFAR-10; the published epsilons of three other data sets to 2 %."""
    gamma = 5000 ** (1 / 231)
    assert ncsnv2.step_size(gamma, 5) * 1e-4 == pytest.approx(6.184e-6, abs=5e-10)
    assert ncsnv2.variance_ratio(ncsnv2.step_size(gamma, 5), gamma, 5) == pytest.approx(1.0555, abs=5e-5)
    for first, levels, moves, epsilon in ((90, 500, 5, 3.3e-6), (190, 1086, 3, 1.8e-6), (348, 2311, 3, 9e-7)):
        size = ncsnv2.step_size((first / 0.01) ** (1 / (levels - 1)), moves)
        assert size * 1e-4 == pytest.approx(epsilon, rel=0.02)


def test_fitted_follows_the_rules() -> None:
    data = torch.zeros(3, 2, 8, dtype=torch.float64)
    data[1, 0, 0], data[2, 1, 1] = 3.0, 4.0
    recipe = ncsnv2.Recipe(sigma_min=0.05, moves=3, channels=2).fitted(data)
    assert recipe.sigma_max == pytest.approx(5.0) and (recipe.moves, recipe.channels) == (3, 2)
    gamma = (5.0 / 0.05) ** (1 / (recipe.levels - 1))
    # the fewest levels whose ratio is at most that of the rule
    assert gamma <= ncsnv2.ratio(16) < (5.0 / 0.05) ** (1 / (recipe.levels - 2))
    assert recipe.epsilon == pytest.approx(ncsnv2.step_size(gamma, 3) * 0.05**2)
    with pytest.raises(ValueError, match=r"within 0.0 of each other, below sigma_min = 0.05"):
        ncsnv2.Recipe(sigma_min=0.05).fitted(torch.ones(3, 16))
