"""DDIM: denoising diffusion implicit models (Song et al. 2021, 2010.02502)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic (eta = 0) to ancestral (eta = 1), from the mean alone.

    x_s = alpha_s D + sqrt(sigma_s^2 - v) eps_hat + sqrt(v) z,  v = eta^2 sigma_{t|s}^2 sigma_s^2 / sigma_t^2.
    First order. The paper's code does not clip D; wrap the denoiser in `Clipped` to do so (eps_hat then follows the
    clipped D). Source: Song et al. 2021 (2010.02502) eq. 12 and 16.
    """

    eta: float = 0.0

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        mean_only = Estimate(denoiser(xt, t).mean)
        return denoiser.process.reverse(mean_only, xt, t, s, self.eta).sample(noise), memory


Recipe = DDIM
