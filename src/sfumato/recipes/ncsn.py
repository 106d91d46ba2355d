"""NCSN: generative modeling by estimating gradients of the data distribution (Song & Ermon 2019, 1907.05600)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.denoisers import Preconditioned, Scheme, log_snr
from sfumato.operators import Measurement
from sfumato.processes import Coefficient
from sfumato.recipes.ladder import Ladder
from sfumato.samplers import Held, Langevin, Sampler


@dataclass(frozen=True)
class Recipe(Ladder):
    """One score network for a geometric ladder of noise levels, sampled by annealed Langevin dynamics.

    Loss (1/L) sum_i sigma_i^2 |s(x + sigma_i z, sigma_i) + z / sigma_i|^2 over the ladder sigma_1 > ... > sigma_L (the
    paper has a factor 1/2). Sampling starts from `start`, uniform noise, and makes at each level `moves` moves

        x <- x + (a_i / 2) s + sqrt(a_i) z,   a_i = epsilon sigma_i^2 / sigma_L^2,

    over `times()`, whose first time is there twice so that the first level has its moves too. The public code drifts by
    a_i and adds sqrt(2 a_i) z with the same epsilon, twice the step: `halved=False`. There is no last denoising step,
    which is most of this model's FID: `sample(..., denoise=True)` makes it. `conditioned(m)` is the paper's inpainting:
    one draw of the seen part a level, written in again after every move. Levels are in the unit of the data, for the
    paper's data on [0, 1].

    Args:
        sigma_max, sigma_min: sigma_1 and sigma_L.
        levels: L.
        moves: T, moves at each level.
        epsilon: step at the last level.
        halved: drift a/2 as in the paper's formula, or a as in its code.

    Source: Song & Ermon 2019 (1907.05600) eq. 5 and 6, algorithms 1 and 2, section 5.
    """

    sigma_max: float = 1.0
    sigma_min: float = 0.01
    levels: int = 10
    moves: int = 100
    epsilon: float = 2e-5
    halved: bool = True

    def model(self) -> Preconditioned:
        """The untrained denoiser; the network's output is the score itself, x_0 = x + sigma^2 F."""
        return Preconditioned(self.net(), self.process(), bare_score)

    def sampler(self) -> Sampler:
        """Annealed Langevin dynamics."""
        return Langevin(self._size(), self.moves)

    def conditioned(self, measurement: Measurement) -> Sampler:
        """The same with what was seen held at each level."""
        return Held(Langevin(self._size(), 1), measurement, self.moves)

    def _size(self) -> float:
        """The move's e / sigma^2 in the convention of `Langevin`: drift e, noise sqrt(2 e)."""
        return self.epsilon / self.sigma_min**2 * (0.5 if self.halved else 1.0)


def bare_score(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = score, so x_0 = (u + sigma^2 F) / alpha, on an input that is not scaled."""
    return Scheme(1.0 + 0.0 * sigma, 1.0 / alpha, sigma**2 / alpha, log_snr(alpha, sigma))
