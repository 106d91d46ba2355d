"""Adversarial score matching and consistent annealed sampling (Jolicoeur-Martineau et al. 2021, 2009.05475)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_score
from sfumato.noise import Noise
from sfumato.processes import Gaussian
from sfumato.recipes.ladder import Ladder
from sfumato.recipes.ncsnv2 import blind
from sfumato.samplers import CAS
from sfumato.training import Levels


@dataclass(frozen=True)
class Recipe(Ladder):
    """NCSNv2's network, trained to fool a discriminator as well, and sampled so that its noise keeps to the ladder.

    The denoised data H = x + sigma^2 s(x, sigma) are what a discriminator sees beside clean data:

        L_D = E (Dis(x_0) - 1)^2 + E (Dis(H) + 1)^2,    L_G = E 0.5 |sigma s + z|^2 + E (Dis(H) - 1)^2.

    `generator(denoiser, discriminator)` is L_G and `judge(denoiser, discriminator)` L_D: two objectives, trained in
    turn, one step of each, by Adam with betas (0, 0.9) and (-0.5, 0.9). torch's Adam refuses the negative one.

    Sampling: `CAS` over `times()`, ended by `sample(..., denoise=True)`. More steps are more levels, not more moves:
    `refine` = n_sigma puts n_sigma steps in the place of each, and `size()` shrinks so that they drift as far as one
    did, (1 - eta')^n = 1 - eta (ours: the released 1.1e-6 at n_sigma = 5 is near its 1.15e-6).

    Args:
        sigma_max, sigma_min, levels: the ladder, of CIFAR-10; data on [0, 1].
        epsilon: step at the last level of the unrefined ladder, eta sigma_L^2.
        refine: n_sigma.
        weight: of the adversarial term in L_G.

    Source: Jolicoeur-Martineau et al. 2021 (2009.05475) eq. 5 to 8, algorithm 2, appendix B.
    """

    sigma_max: float = 50.0
    sigma_min: float = 0.01
    levels: int = 232
    epsilon: float = 5.6e-6
    refine: int = 1
    weight: float = 1.0

    def model(self) -> Preconditioned:
        """The untrained denoiser; its network is told no level."""
        return Preconditioned(self.net(), self.process(), predict_score, clock=blind)

    def generator(self, denoiser: Denoiser, discriminator: nn.Module) -> Generator:
        """L_G; `objective` is the score loss alone, NCSNv2's."""
        return Generator(denoiser, discriminator, self.levels, self.weight)

    def judge(self, denoiser: Denoiser, discriminator: nn.Module) -> Judge:
        """L_D."""
        return Judge(denoiser, discriminator, self.levels)

    def times(self) -> tuple[float, ...]:
        """The refined ladder, n_sigma (L - 1) + 1 levels; each step moves at the level that it leaves."""
        return grids.uniform(self.refine * (self.levels - 1))

    def size(self) -> float:
        """eta of the refined ladder."""
        return -math.expm1(math.log1p(-self.epsilon / self.sigma_min**2) / self.refine)

    def sampler(self) -> CAS:
        """Consistent annealed sampling."""
        return CAS(self.size())


class _Denoised(nn.Module):
    """What both losses share: data noised to a random level of the ladder, and denoised, held to [0, 1]."""

    def __init__(self, denoiser: Denoiser, discriminator: nn.Module, levels: int) -> None:
        super().__init__()
        self.denoiser, self.discriminator, self.times = denoiser, discriminator, Levels(levels)

    def _draw(self, x0: Tensor, cond: Any, noise: Noise) -> tuple[Tensor, Tensor]:
        """(D, sigma): the estimate of x_0, and its level for each row."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        return self.denoiser(xt, t, cond).mean, process.sigma(t).to(x0)


class Generator(_Denoised):
    """L_G of `Recipe`, (B,): the score loss summed over the event, and the adversarial term times `weight`.

    Only the denoiser is to be given to the optimizer. Source: Jolicoeur-Martineau et al. 2021 (2009.05475) eq. 8.
    """

    def __init__(self, denoiser: Denoiser, discriminator: nn.Module, levels: int, weight: float = 1.0) -> None:
        super().__init__(denoiser, discriminator, levels)
        self.weight = weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        D, sigma = self._draw(x0, cond, noise)
        # sigma s + z = (D - x_0) / sigma under alpha = 1.
        score = 0.5 * (D - x0).flatten(1).square().sum(1) / sigma**2
        return score + self.weight * (self.discriminator(D.clamp(0.0, 1.0)).flatten() - 1.0) ** 2


class Judge(_Denoised):
    """L_D of `Recipe`, (B,); no gradient reaches the denoiser.

    Source: Jolicoeur-Martineau et al. 2021 (2009.05475) eq. 7.
    """

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        D, _ = self._draw(x0, cond, noise)
        said, fake = self.discriminator(x0), self.discriminator(D.detach().clamp(0.0, 1.0))
        return (said.flatten() - 1.0) ** 2 + (fake.flatten() + 1.0) ** 2
