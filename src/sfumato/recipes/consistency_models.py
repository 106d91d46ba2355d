"""Consistency models (Song et al. 2023, 2303.01469), and their improved training (Song & Dhariwal 2024, 2310.14189)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sfumato.denoisers import Denoiser, Preconditioned, consistency
from sfumato.processes import EDM
from sfumato.recipes.pictures import Labelled
from sfumato.samplers import Consistency
from sfumato.training.consistency import (
    ConsistencyTraining,
    doubling,
    growing,
    log_normal,
    pseudo_huber,
)


@dataclass(frozen=True)
class Recipe(Labelled):
    """One network call from noise to data: f(x, sigma) is the clean end of the flow through x.

    f = c_skip x + c_out F with f(x, sigma_min) = x. `objective` trains it from data alone (CT): neighbouring levels of
    Karras' grid share the noise, N(k) levels grow from s_0 to s_1, the target is an average with decay
    mu = exp(s_0 log mu_0 / N). `distill(denoiser, teacher)` takes the neighbour from a Heun step of a trained denoiser
    (CD), N = 18. `Recipe.improved()` is iCT: no average, pseudo-Huber distance, weight 1 / (sigma_t - sigma_s),
    log-normal levels, N doubling from 10 to 1280. Sample with `sampler()`, and no other, over (1.0, 0.0), or with times
    between for more calls: `model.sample(16, steps=1, sampler=samplers.Consistency())`. The distance is |a - b|^2 where
    the paper prefers LPIPS; the network is the library's U-Net (ours).

    Args:
        iterations: K, steps of the whole run; the levels follow step / K.
        first, last: s_0 and s_1.
        decay: mu_0; 0: no average.
        better: the choices of iCT.

    Source: Song et al. 2023 (2303.01469) algorithms 1 to 3, appendix C; Song & Dhariwal 2024 (2310.14189) table 1.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    iterations: int = 800_000
    first: int = 2
    last: int = 150
    decay: float = 0.9
    better: bool = False

    @classmethod
    def improved(cls, iterations: int = 400_000) -> Recipe:
        """iCT."""
        return cls(iterations=iterations, first=10, last=1280, decay=0.0, better=True)

    def process(self) -> EDM:
        """alpha = 1, sigma from sigma_min to sigma_max."""
        return EDM(self.sigma_min, self.sigma_max)

    def model(self) -> Preconditioned:
        """The untrained consistency function."""
        return Preconditioned(self.net(), self.process(), consistency(self.sigma_data, self.sigma_min))

    def objective(self, denoiser: Denoiser) -> ConsistencyTraining:
        """Consistency training."""
        if self.better:
            levels = doubling(self.iterations, self.first, self.last)
            return ConsistencyTraining(
                denoiser, levels, distance=pseudo_huber(), law=log_normal(), improved=True, decay=self._decay()
            )
        levels = growing(self.iterations, self.first, self.last)
        return ConsistencyTraining(denoiser, levels, decay=self._decay())

    def distill(
        self, denoiser: Denoiser, teacher: Denoiser, levels: int = 18, decay: float = 0.95
    ) -> ConsistencyTraining:
        """Consistency distillation of a teacher on the same process, at fixed levels."""
        return ConsistencyTraining(denoiser, levels, teacher=teacher, decay=lambda _: decay)

    def sampler(self) -> Consistency:
        """One call a step."""
        return Consistency()

    def _decay(self) -> Callable[[int], float] | None:
        return (lambda N: math.exp(self.first * math.log(self.decay) / N)) if self.decay else None
