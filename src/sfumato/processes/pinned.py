"""Processes with a known end: any Gaussian process, given that x_1 = y.

Diffusion bridges between pictures (I2SB, DDBM) and the Brownian bridges of Schroedinger bridge matching are `Pinned`
processes; their end is the anchor, which `given(cond)` binds. Brownian motion is the reference of most of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.laws import Normal
from sfumato.processes.anchored import Anchored
from sfumato.processes.base import Coefficient, Time, expand, lib, ordered
from sfumato.processes.gaussian import Gaussian, _tensors


@dataclass(frozen=True)
class Brownian(Gaussian):
    """alpha = 1, sigma = size sqrt(t): Brownian motion of variance size^2 over the whole time."""

    size: float = 1.0

    def alpha(self, t: Time) -> Coefficient:
        return torch.ones_like(t) if isinstance(t, Tensor) else 1.0

    def sigma(self, t: Time) -> Coefficient:
        return self.size * lib(t).sqrt(t)

    def time_of(self, log_snr: Time) -> Coefficient:
        t = lib(log_snr).exp(-log_snr) / self.size**2
        return t.clamp(max=1.0) if isinstance(t, Tensor) else min(t, 1.0)


@dataclass(frozen=True)
class Tent(Gaussian):
    """alpha = 1, sigma^2 = B(t), the integral of beta = (a + 2 min(t, 1 - t) (b - a))^2, a^2 = low, b^2 = high.

    The diffusion is strongest in the middle and shrinks towards both ends.
    Source: Liu et al. 2023 (2302.05872) section 3.3, the symmetric schedule.
    """

    low: float = 0.1
    high: float = 0.3

    def alpha(self, t: Time) -> Coefficient:
        return torch.ones_like(t) if isinstance(t, Tensor) else 1.0

    def sigma(self, t: Time) -> Coefficient:
        half = self._integral(torch.tensor(0.5, dtype=torch.float64))
        u = torch.as_tensor(t, dtype=torch.float64)
        # The rate is even about the middle: what comes after it is the whole less what is left.
        B = torch.where(u <= 0.5, self._integral(u), 2.0 * half - self._integral(1.0 - u))
        return B.sqrt() if isinstance(t, Tensor) else math.sqrt(B)

    def _integral(self, t: Tensor) -> Tensor:
        a = math.sqrt(self.low)
        slope = 2.0 * (math.sqrt(self.high) - a)
        return t * (a * a + a * slope * t + slope**2 * t**2 / 3.0)


@dataclass(frozen=True)
class Pinned(Anchored):
    """The process `inner` given its end, x_1 = y, the anchor: N((1 - rho) alpha x_0 + b y, (1 - rho) sigma^2),

        rho(t) = SNR(1) / SNR(t),   b(t) = alpha(1) sigma(t)^2 / (sigma(1)^2 alpha(t)),

    so that the SNR of x_0 is SNR(t) - SNR(1). Of Brownian motion it is the Brownian bridge, (1 - t) x_0 + t y with
    variance size^2 t (1 - t). Given x_0 the way back has forgotten the end: `reverse` with eta = 1 is that of `inner`.
    At t = 1 there is no noise to keep, so the first step draws from the marginal of x_s whatever eta is; with eta = 0
    the rest is the deterministic map of that draw.

    Args:
        inner: alpha(1) and sigma(1) above 0.

    Raises:
        ValueError: for a process that ends without signal (pinning its end says nothing of x_t), or without noise.

    Source: Liu et al. 2023 (2302.05872) proposition 3.3; Zhou et al. 2024 (2309.16948) eq. 7 and table 1; the first
    step: Zheng et al. 2024 (2405.15885) section 3.2.
    """

    def __post_init__(self) -> None:
        if self.inner.alpha(1.0) <= 0.0 or self.inner.sigma(1.0) <= 0.0:
            raise ValueError(
                f"only a process with alpha(1) > 0 and sigma(1) > 0 can be pinned, got {self.inner}: take Brownian."
            )

    def alpha(self, t: Time) -> Coefficient:
        return self._left(t) * self.inner.alpha(t)

    def shift(self, t: Time, like: Tensor) -> Tensor:
        b = self._ends() * self.inner.sigma(t) ** 2 / self.inner.alpha(t)
        return expand(b, like) * self._anchor(like)

    def shift_rate(self, t: Time, like: Tensor) -> Tensor:
        (d_alpha, d_sigma), alpha, sigma = self.inner.rates(t), self.inner.alpha(t), self.inner.sigma(t)
        rate = self._ends() * (2.0 * sigma * d_sigma - sigma**2 * d_alpha / alpha) / alpha
        return expand(rate, like) * self._anchor(like)

    def log_snr(self, t: Time) -> Coefficient:
        clean = self.inner.log_snr(t)
        if isinstance(clean, Tensor):
            return clean + torch.log1p(-torch.exp(self._end() - clean))
        return clean + math.log1p(-math.exp(self._end() - clean)) if clean > self._end() else -math.inf

    def time_of(self, log_snr: Time) -> Coefficient:
        if isinstance(log_snr, Tensor):
            return self.inner.time_of(torch.logaddexp(log_snr, torch.full_like(log_snr, self._end())))
        high, low = max(log_snr, self._end()), min(log_snr, self._end())
        return self.inner.time_of(high + math.log1p(math.exp(low - high)))

    rates = Gaussian.rates

    def prior(self, like: Tensor) -> Normal:
        """The end itself: a point."""
        return Normal(torch.zeros_like(like) + self._anchor(like), 0.0)

    def weights(self, t: Time, s: Time, eta: float = 1.0) -> tuple[Coefficient, Coefficient, Coefficient, Coefficient]:
        if isinstance(t, float) and isinstance(s, float):
            if t < 1.0 or s >= t:
                return super().weights(t, s, eta)
            alpha = self.alpha(s)
            return 0.0, alpha, self._level(s), alpha
        ordered(t, s, "reverse goes towards data")
        t, s = _tensors(t, s)
        first = (t >= 1.0) & (s < 1.0)
        inside = super().weights(torch.where(first, 0.5 * (s + 1.0), t), s, eta)
        alpha = self.alpha(s)
        pinned = (torch.zeros_like(alpha), alpha, self._level(s), alpha)
        return tuple(torch.where(first, a, b) for a, b in zip(pinned, inside, strict=True))  # type: ignore[return-value]

    def _level(self, t: Time) -> Coefficient:
        return lib(t).sqrt(self._left(t)) * self.inner.sigma(t)

    def _left(self, t: Time) -> Coefficient:
        """1 - rho."""
        rho = self._ends() * self.inner.alpha(1.0) * (self.inner.sigma(t) / self.inner.alpha(t)) ** 2
        return (1.0 - rho).clamp(min=0.0) if isinstance(rho, Tensor) else max(1.0 - rho, 0.0)

    def _ends(self) -> float:
        """alpha(1) / sigma(1)^2."""
        return float(self.inner.alpha(1.0) / self.inner.sigma(1.0) ** 2)

    def _end(self) -> float:
        """Log SNR of `inner` at the end."""
        return float(self.inner.log_snr(1.0))
