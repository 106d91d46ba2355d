"""CAS: consistent annealed sampling (Jolicoeur-Martineau et al. 2021, 2009.05475)."""

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
class CAS(Sampler):
    """A Langevin drift at each level, then exactly the noise that puts x on the next one.

        x / alpha <- x / alpha + size sigma_t^2 score + (next level) b z,   b = sqrt(1 - ((1 - size) / g)^2),

    g the ratio of the next level sigma / alpha to this one (the paper has alpha = 1). In terms of the estimate:
    x_s = alpha_s D + sigma_s ((1 - size) / g eps_hat + b z). size = 1 is pure re-noising of D. The last level is to be
    denoised: end with `sample(denoise=True)`, or with a step to sigma = 0, which gives alpha_s D.

    Args:
        size: eta = epsilon / sigma_L^2; 0.056 is that of CIFAR-10 with one step a level of NCSNv2's ladder.

    Raises:
        ValueError: in a step where b is not real: it needs |1 - size| <= g.

    Source: Jolicoeur-Martineau et al. 2021 (2009.05475) algorithm 2.
    """

    size: float = 0.056

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D = denoiser(xt, t).mean
        law = process.marginal(D, s)
        if process.log_snr(s) == math.inf:
            return law.mean, memory
        kept = (1.0 - self.size) * math.exp(0.5 * (process.log_snr(s) - process.log_snr(t)))
        if abs(kept) > 1.0 + 1e-12:
            raise ValueError(
                f"CAS with size {self.size} cannot reach the level of t = {s} from {t}: the drift "
                f"leaves {abs(kept):.4g} of its noise. Take a larger size or a finer grid."
            )
        b = math.sqrt(max(1.0 - kept * kept, 0.0))
        eps = kept * process.eps(xt, D, t) + b * noise.normal(xt)
        return law.mean + expand(process.sigma(s), xt) * eps, memory
