"""NCSNv2: improved techniques for training score-based generative models (Song & Ermon 2020, 2006.09011)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.denoisers import Preconditioned, predict_score
from sfumato.processes import Time
from sfumato.recipes.ladder import Ladder
from sfumato.samplers import Langevin, Sampler


@dataclass(frozen=True)
class Recipe(Ladder):
    """NCSN with its hyper-parameters read off the data: `Recipe().fitted(data)`.

    (1) sigma_1 is the largest distance between two data, `largest_distance`. (2) The ratio of neighbouring levels makes
    half of the mass of one level's shell be covered by the next: `overlap` and `ratio`. (3) The network does not see
    sigma, s(x, sigma) = F(x) / sigma. (4) As many levels as affordable, then T, then the epsilon that keeps the
    variance nearest to the level's: `variance_ratio` and `step_size`. (5) Sample with averaged weights, decay 0.999.

    At each level `moves` moves x <- x + a_i s + sqrt(2 a_i) z, a_i = epsilon sigma_i^2 / sigma_L^2 (twice the step of
    NCSN's formula), over `times()`, from uniform noise on [0, 1); at the end one denoising step,
    `sample(..., denoise=True)`.

    The defaults are CIFAR-10's, data on [0, 1]. Others of the paper (sigma_max, levels, moves, epsilon): CelebA 64: 90,
    500, 5, 3.3e-6; bedroom and tower 128: 190, 1086, 3, 1.8e-6; FFHQ 256: 348, 2311, 3, 9e-7.

    Args:
        sigma_max, sigma_min: sigma_1 and sigma_L, in the unit of the data.
        levels: L.
        moves: T, moves at each level.
        epsilon: step at the last level.

    Source: Song & Ermon 2020 (2006.09011) techniques 1 to 5, propositions 1 to 3, algorithm 1.
    """

    sigma_max: float = 50.0
    sigma_min: float = 0.01
    levels: int = 232
    moves: int = 5
    epsilon: float = 6.2e-6

    def fitted(self, data: Tensor) -> Recipe:
        """This recipe with sigma_max, levels and epsilon by the rules for these data, (n, *event).

        Raises:
            ValueError: if the largest distance is not above sigma_min, or for events of fewer than 5 numbers.
        """
        first = largest_distance(data)
        if first <= self.sigma_min:
            raise ValueError(f"the data lie within {first} of each other, below sigma_min = {self.sigma_min}.")
        gamma = ratio(data[0].numel())
        count = 1 + math.ceil(math.log(first / self.sigma_min) / math.log(gamma))
        actual = (first / self.sigma_min) ** (1.0 / (count - 1))
        epsilon = step_size(actual, self.moves) * self.sigma_min**2
        return replace(self, sigma_max=first, levels=count, epsilon=epsilon)

    def model(self) -> Preconditioned:
        """The untrained denoiser; its network is told no level."""
        return Preconditioned(self.net(), self.process(), predict_score, clock=blind)

    def sampler(self) -> Sampler:
        """Annealed Langevin dynamics in the convention of the paper's algorithm: drift a, noise sqrt(2 a)."""
        return Langevin(self.epsilon / self.sigma_min**2, self.moves)


def blind(t: Time) -> float:
    """The level that the network is told: none."""
    return 0.0


def largest_distance(data: Tensor) -> float:
    """max_ij |x_i - x_j| of data (n, *event): rule 1 for sigma_1. All pairs: take some thousands of a large set."""
    flat = data.flatten(1)
    return float(torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").max())


def overlap(gamma: float, d: int) -> float:
    """C(gamma) = Phi(sqrt(2 d) (gamma - 1) + 3 gamma) - Phi(sqrt(2 d) (gamma - 1) - 3 gamma), near 0.5 by rule 2: the
    share of one level's shell, in d dimensions, that lies within three deviations of the next wider one."""
    shift = math.sqrt(2.0 * d) * (gamma - 1.0)
    # As a difference of upper tails, which keeps its digits where both are near one.
    return 0.5 * (math.erfc((shift - 3.0 * gamma) / math.sqrt(2.0)) - math.erfc((shift + 3.0 * gamma) / math.sqrt(2.0)))


def ratio(d: int, share: float = 0.5) -> float:
    """The ratio gamma > 1 of neighbouring levels with `overlap(gamma, d) = share`, by bisection.

    Raises:
        ValueError: where no ratio below 100 has so small an overlap: in fewer than about 5 dimensions.
    """
    low, high = 1.0, 100.0
    if overlap(high, d) > share:
        raise ValueError(
            f"in {d} dimensions shells overlap by more than {share} at any ratio below 100: choose the levels by hand."
        )
    for _ in range(100):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if overlap(mid, d) > share else (low, mid)
    return high


def variance_ratio(size: float, gamma: float, moves: int) -> float:
    """Var / sigma_i^2 after `moves` moves at a level entered with the variance of the one before; data at a point.

    (1 - e)^(2 T) (gamma^2 - c) + c,   c = 2 e / (1 - (1 - e)^2) = 2 / (2 - e),   e = epsilon / sigma_L^2
    """
    c = 2.0 / (2.0 - size)
    return (1.0 - size) ** (2 * moves) * (gamma**2 - c) + c


def step_size(gamma: float, moves: int) -> float:
    """epsilon / sigma_L^2 by rule 4: that with `variance_ratio` nearest to 1, which it never reaches; 0 < size < 1.

    The ratio is above 1 and has one minimum in size: the search narrows a bracket by golden sections.
    """
    golden = 0.5 * (math.sqrt(5.0) - 1.0)
    low, high = 0.0, 1.0
    for _ in range(80):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if variance_ratio(a, gamma, moves) < variance_ratio(b, gamma, moves):
            high = b
        else:
            low = a
    return 0.5 * (low + high)
