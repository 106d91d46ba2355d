"""Noise schedules, each named by its formula: the "VP" of two libraries end at different alphas.

Every schedule is a frozen dataclass of the numbers in its formula. `B(t)` is the integral of beta from 0 to t.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.laws import Normal
from sfumato.processes.base import Coefficient, Time, lib
from sfumato.processes.gaussian import Gaussian


class VariancePreserving(Gaussian):
    """alpha^2 + sigma^2 = 1; the prior is N(0, I), as in the papers, though sigma(1) is a little below 1."""

    def prior(self, like: Tensor) -> Normal:
        """N(0, I)."""
        return Normal(torch.zeros_like(like), 1.0)


class Beta(VariancePreserving):
    """alpha = exp(-B / 2), sigma^2 = 1 - exp(-B): the VP process of dx = -beta/2 x dt + sqrt(beta) dw."""

    @abstractmethod
    def beta(self, t: Time) -> Coefficient:
        """Rate of the process at time t."""

    @abstractmethod
    def integral(self, t: Time) -> Coefficient:
        """B(t), the integral of beta from 0 to t."""

    def alpha(self, t: Time) -> Coefficient:
        return lib(t).exp(-0.5 * self.integral(t))

    def sigma(self, t: Time) -> Coefficient:
        return lib(t).sqrt(-lib(t).expm1(-self.integral(t)))

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        alpha, beta = self.alpha(t), self.beta(t)
        return -0.5 * beta * alpha, 0.5 * beta * alpha**2 / self.sigma(t)


@dataclass(frozen=True)
class LinearBeta(Beta):
    """beta(t) = beta_min + t (beta_max - beta_min); alpha(1) = 0.0066 with the defaults.

    Source: Ho et al. 2020 (2006.11239) section 4, in continuous time: Song et al. 2021 (2011.13456) eq. 32.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Time) -> Coefficient:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Coefficient:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def time_of(self, log_snr: Time) -> Coefficient:
        # alpha^2 = sigmoid(lambda), so B = softplus(-lambda); then the root of the quadratic, without cancellation.
        B = _clip(_softplus(-log_snr), 0.0, self.integral(1.0))
        slope = self.beta_max - self.beta_min
        return 2.0 * B / (self.beta_min + lib(B).sqrt(self.beta_min**2 + 2.0 * slope * B))


@dataclass(frozen=True)
class SigmoidBeta(Beta):
    """beta(t) = beta_min + (beta_max - beta_min) sigmoid(width (2 t - 1)): slow at both ends.

    Source: the "sigmoid" table of GeoDiff (Xu et al. 2022, 2203.02923), in continuous time.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    width: float = 6.0

    def beta(self, t: Time) -> Coefficient:
        return self.beta_min + (self.beta_max - self.beta_min) / (1.0 + lib(t).exp(-self.width * (2.0 * t - 1.0)))

    def integral(self, t: Time) -> Coefficient:
        k = 2.0 * self.width
        rise = (_softplus(k * t - self.width) - _softplus(-self.width)) / k
        return self.beta_min * t + (self.beta_max - self.beta_min) * rise


@dataclass(frozen=True)
class Cosine(VariancePreserving):
    """alpha = cos(a) / cos(b), a = (t + s) / (1 + s) pi / 2, b = a at t = 0; alpha(1) = 0.

    Source: Nichol & Dhariwal 2021 (2102.09672) eq. 17. Their tables also clip each beta at 0.999: use `Table.cosine`.
    """

    offset: float = 0.008

    def alpha(self, t: Time) -> Coefficient:
        return lib(t).cos(self._angle(t)) / math.cos(self._angle(0.0))

    def sigma(self, t: Time) -> Coefficient:
        # cos(b)^2 - cos(a)^2 = sin(a - b) sin(a + b) keeps its digits near t = 0.
        a, b = self._angle(t), self._angle(0.0)
        m = lib(t)
        return m.sqrt(m.sin(t * self._angle(1.0) / (1.0 + self.offset)) * m.sin(a + b)) / math.cos(b)

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        d_alpha = -self._angle(1.0) / (1.0 + self.offset) * lib(t).sin(self._angle(t)) / math.cos(self._angle(0.0))
        return d_alpha, -self.alpha(t) * d_alpha / self.sigma(t)

    def time_of(self, log_snr: Time) -> Coefficient:
        alpha = lib(log_snr).exp(-0.5 * _softplus(-log_snr))
        a = lib(log_snr).acos(alpha * math.cos(self._angle(0.0)))
        t = a * (1.0 + self.offset) / (0.5 * math.pi) - self.offset
        return _clip(t, 0.0, 1.0)

    def _angle(self, t: Time) -> Coefficient:
        return (t + self.offset) / (1.0 + self.offset) * (0.5 * math.pi)


@dataclass(frozen=True)
class Geometric(Gaussian):
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t: the VE process.

    Source: Song et al. 2021 (2011.13456) section 3.4 and appendix C; the defaults are those of CIFAR-10.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def alpha(self, t: Time) -> Coefficient:
        return torch.ones_like(t) if isinstance(t, Tensor) else 1.0

    def sigma(self, t: Time) -> Coefficient:
        return self.sigma_min * lib(t).exp(t * math.log(self.sigma_max / self.sigma_min))

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        return 0.0 * t, self.sigma(t) * math.log(self.sigma_max / self.sigma_min)

    def time_of(self, log_snr: Time) -> Coefficient:
        t = (-0.5 * log_snr - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return _clip(t, 0.0, 1.0)


@dataclass(frozen=True)
class EDM(Gaussian):
    """alpha = 1, sigma = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, so that uniform times are
    Karras' grid. sigma(0) = 0.002, not 0.

    Source: Karras et al. 2022 (2206.00364) eq. 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Time) -> Coefficient:
        return torch.ones_like(t) if isinstance(t, Tensor) else 1.0

    def sigma(self, t: Time) -> Coefficient:
        low, high = self._ends()
        return (low + t * (high - low)) ** self.rho

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        low, high = self._ends()
        return 0.0 * t, self.rho * (high - low) * (low + t * (high - low)) ** (self.rho - 1.0)

    def time_of(self, log_snr: Time) -> Coefficient:
        low, high = self._ends()
        t = (lib(log_snr).exp(-0.5 * log_snr / self.rho) - low) / (high - low)
        return _clip(t, 0.0, 1.0)

    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1.0 / self.rho), self.sigma_max ** (1.0 / self.rho)


@dataclass(frozen=True)
class Rectified(Gaussian):
    """alpha = 1 - t, sigma = t: the straight path of rectified flow and flow matching.

    Source: Liu et al. 2023 (2209.03003) eq. 1; Lipman et al. 2023 (2210.02747) with sigma_min = 0.
    """

    def alpha(self, t: Time) -> Coefficient:
        return 1.0 - t

    def sigma(self, t: Time) -> Coefficient:
        return t

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        return (-1.0, 1.0) if isinstance(t, float) else (-torch.ones_like(t), torch.ones_like(t))

    def time_of(self, log_snr: Time) -> Coefficient:
        if isinstance(log_snr, Tensor):
            return torch.sigmoid(-0.5 * log_snr)
        return math.exp(-_softplus(0.5 * log_snr))


@dataclass(frozen=True)
class Trigonometric(Gaussian):
    """alpha = cos(pi t / 2), sigma = sigma_data sin(pi t / 2): TrigFlow, whose x_t has the spread of the data always.

    Source: Lu & Song 2025 (2410.11081) section 3.
    """

    sigma_data: float = 0.5

    def alpha(self, t: Time) -> Coefficient:
        return lib(t).cos(0.5 * math.pi * t)

    def sigma(self, t: Time) -> Coefficient:
        return self.sigma_data * lib(t).sin(0.5 * math.pi * t)

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        half = 0.5 * math.pi
        return -half * lib(t).sin(half * t), half * self.sigma_data * lib(t).cos(half * t)

    def time_of(self, log_snr: Time) -> Coefficient:
        return lib(log_snr).atan(lib(log_snr).exp(-0.5 * log_snr) / self.sigma_data) / (0.5 * math.pi)


@dataclass(frozen=True)
class SubVP(LinearBeta):
    """alpha = exp(-B / 2), sigma = 1 - exp(-B) (the standard deviation): the sub-VP process.

    Source: Song et al. 2021 (2011.13456) eq. 29 and 33.
    """

    def sigma(self, t: Time) -> Coefficient:
        return -lib(t).expm1(-self.integral(t))

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        alpha, beta = self.alpha(t), self.beta(t)
        return -0.5 * beta * alpha, beta * alpha**2

    time_of = Gaussian.time_of  # the SNR is not that of the VP process


def _clip(x: Coefficient, low: float, high: float) -> Coefficient:
    return x.clamp(low, high) if isinstance(x, Tensor) else min(max(x, low), high)


def _softplus(x: Coefficient) -> Coefficient:
    """log(1 + exp(x)) without overflow, for floats and tensors."""
    if isinstance(x, Tensor):
        return torch.logaddexp(x, torch.zeros_like(x))
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
