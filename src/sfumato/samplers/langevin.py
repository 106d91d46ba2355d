"""Langevin moves at a fixed noise level: annealed Langevin dynamics alone, a corrector after another sampler.

A move is x <- x + e score + sqrt(2 e) z. This is the convention of the public code of NCSN, NCSNv2 and Score SDE; SGLD
and the formula of NCSN's paper write the same dynamics with 2 e in the place of e, drift e score and noise sqrt(2 e)
becoming drift (a / 2) score and noise sqrt(a).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time, expand
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Langevin(Sampler):
    """`moves` moves at the level of s with the step e = size sigma_s^2; nothing is done where sigma_s = 0.

    Over a falling grid whose first time is there twice it is annealed Langevin dynamics, size = epsilon / sigma_L^2 of
    the papers' code, half of that for NCSN's formula; end it with `sample(denoise=True)`. As the corrector of `Chain`
    it moves at s = t. On N(0, v) at a level where x_t has variance v it settles at v / (1 - e / (2 v)).

    Args:
        size: e / sigma^2; NCSNv2's CIFAR-10 has 6.2e-6 / 0.01^2.
        moves: T, moves at each level.

    Source: Song & Ermon 2020 (2006.09011) algorithm 1; Song & Ermon 2019 (1907.05600) algorithm 1.
    """

    size: float = 0.062
    moves: int = 5

    def __post_init__(self) -> None:
        if self.size <= 0.0 or self.moves < 1:
            raise ValueError(f"Langevin needs size > 0 and moves >= 1, got {self.size} and {self.moves}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        sigma, x = expand(process.sigma(s), xt), xt
        if isinstance(sigma, float) and sigma == 0.0:
            return xt, memory
        for _ in range(self.moves):
            # e score = size (alpha D + shift - x): no division by sigma.
            pull = process.marginal(denoiser(x, s).mean, s).mean - x
            x = x.add(pull, alpha=self.size) + math.sqrt(2.0 * self.size) * sigma * noise.normal(x)
        return x, memory


@dataclass(frozen=True)
class SNRLangevin(Sampler):
    """`moves` moves at the level of s with e = 2 (snr |z| / |score|)^2, a ratio of the noise's norm to the score's.

    Norms are per sample; the paper's code averages them over the batch, so that samples depend on each other. Its
    factor alpha_n = 1 - beta_n for VP tables, within 2 % of 1, is left out (ours). On N(0, v) it settles near
    v (1 + snr^2).

    Args:
        snr: r; 0.16 for CIFAR-10 under VE.
        moves: moves at each level.

    Source: Song et al. 2021 (2011.13456) algorithm 4 and appendix G.
    """

    snr: float = 0.16
    moves: int = 1

    def __post_init__(self) -> None:
        if self.snr <= 0.0 or self.moves < 1:
            raise ValueError(f"SNRLangevin needs snr > 0 and moves >= 1, got {self.snr} and {self.moves}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(s, float)
        x = xt
        if process.log_snr(s) == math.inf:
            return xt, memory
        for _ in range(self.moves):
            score, z = process.score(x, denoiser(x, s).mean, s), noise.normal(x)
            ratio = self.snr * z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)
            e = expand(2.0 * ratio**2, x)
            x = x + e * score + (2.0 * e).sqrt() * z
        return x, memory
