"""SDEFlow: a variational perspective on diffusion-based generative models and score matching (Huang et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sfumato.codecs import Logit
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.likelihood import Bound, continuous_elbo, implicit
from sfumato.noise import Noise
from sfumato.processes import LinearBeta
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import EulerMaruyama
from sfumato.training import Likelihood, UniformLogSNR


@dataclass(frozen=True)
class Recipe(Pictures):
    """The ELBO of continuous time: learning the score is maximum likelihood of the plug-in reverse SDE.

    log p(x) >= E log prior(Y_1) - integral E[0.5 |a|^2 + div(g a - f)] ds, a = g score, Y the forward SDE from x. By
    Stein's identity the divergence form has the mean of denoising score matching, with another variance. Times have
    density g^2 / sigma^2 above `flat` and are uniform below, where the loss keeps its weight (unbiased). `sampler(lam)`
    is a plug-in SDE of the family whose marginals are all the same: 0 the reverse SDE, 1 the flow. Pictures are encoded
    by `codecs.Logit`, whose log-determinant belongs to the bits. The network is the library's U-Net (ours).

    Source: Huang et al. 2021 (2106.02808) eq. 13 and 17, section 5; public code for `flat`.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    flat: float = 1e-3  # t_eps, below which times are uniform
    end: float = 1e-5  # the first time (ours): the weight is infinite at 0

    def process(self) -> LinearBeta:
        """The VP process."""
        return LinearBeta(self.beta_min, self.beta_max)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), predict_eps)

    def objective(self, denoiser: Denoiser) -> Likelihood:
        """The denoising form of the bound, with debiased times."""
        return Likelihood(denoiser, UniformLogSNR(self.end, self.flat))

    def codec(self) -> Logit:
        """Data in [0, 1] on the whole line."""
        return Logit()

    def sampler(self, lam: float = 0.0) -> EulerMaruyama:
        """The plug-in SDE with drift (1 - lam / 2) g a - f and diffusion sqrt(1 - lam) g, lam in [0, 1]."""
        if not 0.0 <= lam <= 1.0:
            raise ValueError(f"lambda of the family lies in [0, 1], got {lam}.")
        return EulerMaruyama(math.sqrt(1.0 - lam))

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise, points: int = 100) -> Bound:
        """The divergence form of the bound on -log p(x0), one Rademacher vector for each point."""
        return continuous_elbo(denoiser, x0, noise, end=self.end, points=points, integrand=implicit)
