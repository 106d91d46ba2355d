"""Guides made of the first two moments of x_0 given x_t: E[x_0 | x_t] = D, Cov[x_0 | x_t] = C.

By Tweedie's formula of second order C = sigma_t^2 / alpha_t dD/dx_t, so C v is one backward pass through the network.
If p(y | x_t) is taken as a Gaussian about A D, its gradient in x_t is alpha_t / sigma_t^2 C b with b the pull of the
data on D, and the guided denoiser is D + C b: MMPS, TMPD and PiGDM differ in b.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time, expand

_FAINT = -8.0 * math.log(10.0)  # log SNR of alpha = 1e-4 sigma

Covariance = Callable[[Tensor], Tensor]


class Pulled(Wrapper, ABC):
    """D + C b, the denoiser of x_0 given x_t and y, for the C b of a subclass; its mean carries no gradient.

    Where alpha(t) is 0 the state says nothing of x_0 and the Jacobian nothing of C: the time is then held where alpha
    is 1e-4 sigma.

    Attributes:
        passes: most products with C in a call. The last of them frees the graph as it goes, which saves memory.
    """

    passes: int = 1

    def __init__(self, inner: Denoiser, m: Measurement) -> None:
        super().__init__(inner)
        self.m = m

    @abstractmethod
    def correction(self, operator: Linear, D: Tensor, covariance: Covariance, t: Time) -> Tensor:
        """C b, (B, *event), for b = A^T Var[y | x_t]^{-1} (y - A D) in the method's approximation of the variance."""

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process, operator = self.process.bind(cond), self.m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        t = inside(process, t)
        with torch.enable_grad():
            xt = xt.detach().requires_grad_()
            mean = self.inner(xt, t, cond).mean
        scale = expand(process.sigma(t) ** 2 / process.alpha(t), xt)

        left = self.passes

        def covariance(v: Tensor) -> Tensor:
            nonlocal left
            left -= 1
            (g,) = torch.autograd.grad(mean, xt, v, retain_graph=left > 0)
            return scale * g

        D = mean.detach()
        with torch.no_grad():
            return Estimate(D + self.correction(operator, D, covariance, t))


def inside(process: Gaussian, t: Time) -> Time:
    """t, held to alpha >= 1e-4 sigma."""
    lost = process.alpha(t) < 1e-4 * process._level(t)
    if isinstance(t, Tensor):
        return torch.where(lost, process.time_of(_FAINT), t) if bool(lost.any()) else t
    return process.time_of(_FAINT) if lost else t
