"""MMPS: moment matching posterior sampling (Rozet et al. 2024, 2405.13712)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.operators import Linear, Measurement, conjugate_gradients
from sfumato.processes import Gaussian, Time, expand
from sfumato.solvers.base import Guided

_FAINT = -8.0 * math.log(10.0)  # log SNR of alpha = 1e-4 sigma


@dataclass(frozen=True)
class MMPS(Guided):
    """E[x_0 | x_t, y] with p(x_0 | x_t) taken as N(D, C), its covariance from the Jacobian of the denoiser.

    D_y = D + C A^T (sigma_y^2 + A C A^T)^{-1} (y - A D),   C = Cov[x_0 | x_t] = sigma_t^2 / alpha_t dD/dx_t.

    Exact on Gaussian data, with enough iterations, for any A and sigma_y. On data of several modes the Gaussian is too
    wide, and the weights of the modes come out wrong. Times are uniform in log SNR, the sampler is DDIM (the paper
    names no grid that suits every process).

    Args:
        steps, sampler: see `Guided`.
        iterations: Krylov iterations for the inverse, each one product with C (one backward pass through the network);
            one more at the end. Conjugate gradients with inner products per sample, and a stop on negative curvature,
            where the paper uses GMRES (ours): a network's Jacobian is neither symmetric nor positive.

    Source: Rozet et al. 2024 (2405.13712) section 4; 1 and 5 iterations in its public benchmark.
    """

    iterations: int = 5
    needs = Linear

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"MMPS: iterations is at least 1, got {self.iterations}.")

    def guide(self, denoiser: Denoiser, m: Measurement) -> MomentMatched:
        return MomentMatched(denoiser, m, self.iterations)


class MomentMatched(Wrapper):
    """The denoiser of x_0 given x_t and y of `MMPS`; its mean carries no gradient.

    Where alpha(t) is 0 the state says nothing of x_0 and the Jacobian nothing of C: the time is then held where alpha
    is 1e-4 sigma.
    """

    def __init__(self, inner: Denoiser, m: Measurement, iterations: int) -> None:
        super().__init__(inner)
        self.m, self.iterations = m, iterations

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process, operator, sigma = self.process.bind(cond), self.m.operator, self.m.sigma
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        t = _inside(process, t)
        with torch.enable_grad():
            xt = xt.detach().requires_grad_()
            mean = self.inner(xt, t, cond).mean
        scale = expand(process.sigma(t) ** 2 / process.alpha(t), xt)

        def covariance(v: Tensor) -> Tensor:
            (g,) = torch.autograd.grad(mean, xt, v, retain_graph=True)
            return scale * g

        D = mean.detach()
        with torch.no_grad():
            v = conjugate_gradients(
                lambda u: operator(covariance(operator.adjoint(u))) + sigma**2 * u,
                self.m.residual(D),
                steps=self.iterations,
            )
            return Estimate(D + covariance(operator.adjoint(v)))


def _inside(process: Gaussian, t: Time) -> Time:
    """t, held to alpha >= 1e-4 sigma."""
    lost = process.alpha(t) < 1e-4 * process._level(t)
    if isinstance(t, Tensor):
        return torch.where(lost, process.time_of(_FAINT), t) if bool(lost.any()) else t
    return process.time_of(_FAINT) if lost else t
