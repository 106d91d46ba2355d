"""A process that leaves one band of the data alone: noise in the others, by an orthogonal projection.

    x_t = (I - P) x_0 + P (alpha x_0 + sigma eps)

The low band (I - P) x_0 of every state is that of x_0, so the state itself carries it: with shift(t) = (1 - alpha)
(I - P) x_t this is alpha x_0 + shift + sigma P eps, and every formula of `Gaussian` holds for an estimate D whose low
band is that of x_t (`denoisers.KeptBand`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law, Normal
from sfumato.noise import Noise
from sfumato.processes.anchored import Pulled
from sfumato.processes.base import Coefficient, Time
from sfumato.processes.gaussian import Gaussian

Band = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class InBand(Normal):
    """mean + std P z: a normal law outside the band `low` = I - P, and a point inside it."""

    low: Band = torch.zeros_like

    def sample(self, noise: Noise) -> Tensor:
        if isinstance(self.std, float) and self.std == 0.0:
            return self.mean
        z = noise.normal(self.mean)
        return self.mean + self.std * (z - self.low(z))

    def log_prob(self, x: Tensor) -> Tensor:
        """Raises ValueError: there is no density."""
        raise ValueError("a law that is a point in one band has no density.")

    def kl(self, other: Law) -> Tensor:
        """Raises ValueError: there is no density."""
        raise ValueError("a law that is a point in one band has no density.")


@dataclass(frozen=True)
class HighBand(Pulled):
    """dx = f P x dt + g P dw with alpha and sigma of `inner`; the low band is `low`, I - P.

    Args:
        inner: the schedule.
        low: x to its part in the low band, linear, idempotent and self-adjoint; zero everywhere, it is `inner`.
        seen: a picture whose low band is known, which the prior starts from, (B, *event); None until `bind` gives it.
        read: takes `seen` out of a condition.

    Source: Cao et al. 2022 (2208.05481) eq. 10 and 11, of a band of k-space.
    """

    inner: Gaussian
    low: Band
    seen: Tensor | None = None
    read: Callable[[Any], Tensor] | None = None

    def bind(self, cond: Any) -> HighBand:
        """The process with the known picture of `cond`; unchanged once there is one, or without a condition."""
        if self.seen is not None or cond is None:
            return self
        return replace(self, seen=self.read(cond) if self.read else cond)

    def high(self, x: Tensor) -> Tensor:
        """P x."""
        return x - self.low(x)

    def _anchor(self, like: Tensor) -> Tensor:
        return self.low(like)

    def sigma(self, t: Time) -> Coefficient:
        return self.inner.sigma(t)

    def marginal(self, x0: Tensor, t: Time) -> InBand:
        """x_0 in the low band, N(alpha x_0, sigma^2) outside it."""
        return self._in_band(super().marginal(x0, t))

    def forward(self, xt: Tensor, t: Time, s: Time) -> InBand:
        """x_t in the low band, N(r x_t, sigma_s^2 - r^2 sigma_t^2) outside it, r = alpha_s / alpha_t."""
        return self._in_band(super().forward(xt, t, s))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> InBand:
        """x_t in the low band, the law of `Gaussian` outside it, from the mean alone: a variance of each pixel says
        nothing of a band."""
        return self._in_band(super().reverse(Estimate(estimate.mean), xt, t, s, eta))

    def perturb(self, x0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """The state with the noise P eps."""
        return super().perturb(x0, t, self.high(eps))

    def prior(self, like: Tensor) -> InBand:
        """The low band of the known picture, and the noise of `inner` outside it."""
        if self.seen is None:
            raise ValueError("HighBand has no low band to start from: sample with denoiser.given(picture).")
        law = self.inner.prior(like)
        return InBand(self.high(law.mean) + self.low(self.seen.to(like)), law.std, self.low)

    def _in_band(self, law: Normal) -> InBand:
        return InBand(law.mean, law.std, self.low)
