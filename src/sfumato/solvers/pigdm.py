"""PiGDM: pseudoinverse-guided diffusion models for inverse problems (Song et al. 2023, ICLR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Guided, Solver, indexed
from sfumato.solvers.tweedie import Covariance, Pulled


@dataclass(frozen=True)
class PiGDM(Solver):
    """Algorithm 1: a DDIM step plus guidance with p(x_0 | x_t) taken as N(D, r_t^2 I).

    x_s = alpha_s D + sigma_s (sqrt(1 - tau) eps_hat + sqrt(tau) z) + weight alpha_t r_t^2 g,
    g = (dD/dx_t)^T A^T (r_t^2 A A^T + sigma_y^2 I)^{-1} (y - A D),   r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2),

    from the start alpha_1 A^+ y + sigma_1 z. Never exact for sigma_y > 0: guidance does not shrink with the step, so
    the spread along A collapses, the more the more steps; `PiGDMScore` is the consistent form. Without noise it is a
    projection, and good. One call and one backward pass per step. A time is shared by the batch.

    Args:
        steps: network evaluations; the table's own steps, or uniform in t.
        eta: of the DDIM step.
        weight: of the guidance.

    Source: Song et al. 2023 (openreview 9_gsMA8MRKQ) eq. 7 and algorithm 1. Its public code multiplies the guidance by
    alpha_s too.
    """

    steps: int = 100
    eta: float = 1.0
    weight: float = 1.0
    needs = Linear
    differentiates = True

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        assert isinstance(denoiser.process, Gaussian) and isinstance(m.operator, Linear)
        return denoiser.process.marginal(m.operator.pinv(m.y), t).sample(noise)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        with torch.enable_grad():
            xt = xt.detach().requires_grad_()
            mean = denoiser(xt, t).mean
        D = mean.detach()
        pull = operator.ridge(m.residual(D), m.sigma**2 / spread(process, t))  # r_t^2 A^T (...)^{-1} (y - A D)
        (g,) = torch.autograd.grad(mean, xt, pull)
        xs = process.reverse(Estimate(D), xt.detach(), t, s, self.eta).sample(noise)
        return torch.add(xs, g, alpha=self.weight * process.alpha(t)), memory


@dataclass(frozen=True)
class PiGDMScore(Guided):
    """The score form: E[x_0 | x_t, y] = D + sigma_t^2 / alpha_t g, with g as in `PiGDM`, through any sampler.

    Exact on N(0, prior_var I) for any A and sigma_y. On other data each direction is treated as if it had this
    variance, which under-uses y in tight directions. Times are uniform in log SNR (ours), shared by the batch.

    Args:
        steps, sampler: see `Guided`.
        prior_var: variance of x_0 in r_t^2 = prior_var sigma_t^2 / (prior_var alpha_t^2 + sigma_t^2); 1 in the paper.

    Source: Song et al. 2023 (openreview 9_gsMA8MRKQ) eq. 5 to 7.
    """

    prior_var: float = 1.0
    needs = Linear
    differentiates = True

    def __post_init__(self) -> None:
        if not self.prior_var > 0.0:
            raise ValueError(f"PiGDMScore: prior_var is a variance, above 0, got {self.prior_var}.")

    def guide(self, denoiser: Denoiser, m: Measurement) -> PseudoinverseGuided:
        return PseudoinverseGuided(denoiser, m, self.prior_var)


class PseudoinverseGuided(Pulled):
    """The denoiser of x_0 given x_t and y of `PiGDMScore`."""

    def __init__(self, inner: Denoiser, m: Measurement, prior_var: float) -> None:
        super().__init__(inner, m)
        self.prior_var = prior_var

    def correction(self, operator: Linear, D: Tensor, covariance: Covariance, t: Time) -> Tensor:
        assert isinstance(self.process, Gaussian)
        r2 = spread(self.process, t, self.prior_var)
        return covariance(operator.ridge(self.m.residual(D), self.m.sigma**2 / r2) / r2)


def spread(process: Gaussian, t: Time, prior_var: float = 1.0) -> float:
    """r_t^2 = prior_var sigma^2 / (prior_var alpha^2 + sigma^2): the variance of x_0 given x_t on N(0, prior_var I)."""
    alpha, level = process.alpha(t), process._level(t)
    return float(prior_var * level**2 / (prior_var * alpha**2 + level**2))


Recipe = PiGDM
