"""Schedules of a drift to a mean under noise that grows: inside `Reverting`, x_t goes from x_0 to y and back from y.

    dx = pull(t) (y - x) dt + g(t) dw,    alpha = exp(-G),  G = integral of pull,    E x_t = alpha x_0 + (1 - alpha) y

`Pull` and its three kinds have noise that grows as g = c sigma_min r^t beside the drift, r = sigma_max / sigma_min.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.processes.base import Coefficient, Time, lib
from sfumato.processes.gaussian import Gaussian


@dataclass(frozen=True)
class Pull(Gaussian):
    """The schedule of dx = -pull x dt + c sigma_min r^t dw, its variance by quadrature:

        sigma^2(t) = c^2 sigma_min^2 integral_0^t r^2u e^(2 G(u) - 2 G(t)) du,    c such that sigma(1) = sigma_max.

    Args:
        gamma: strength of the drift, above 0.
        sigma_min, sigma_max: ends of the growth of the noise, 0 < sigma_min < sigma_max.
    """

    gamma: float = 1.0
    sigma_min: float = 0.01
    sigma_max: float = 1.0

    def __post_init__(self) -> None:
        if self.gamma <= 0.0 or not 0.0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"gamma > 0 and 0 < sigma_min < sigma_max are needed, got {self.gamma}, {self.sigma_min}, "
                f"{self.sigma_max}."
            )

    @abstractmethod
    def pull(self, t: Time) -> Coefficient:
        """Rate of the drift at time t."""

    @abstractmethod
    def pulled(self, t: Time) -> Coefficient:
        """G(t), the integral of `pull` from 0 to t."""

    def alpha(self, t: Time) -> Coefficient:
        return lib(t).exp(-self.pulled(t))

    def sigma(self, t: Time) -> Coefficient:
        return lib(t).sqrt(self._gain * self._integral(t))

    def sde(self, t: Time) -> tuple[Coefficient, Coefficient]:
        growth = self.sigma_min * lib(t).exp(t * math.log(self.sigma_max / self.sigma_min))
        return -self.pull(t), math.sqrt(self._gain) * growth

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        f, g = self.sde(t)
        sigma = self.sigma(t)
        return f * self.alpha(t), f * sigma + 0.5 * g**2 / sigma

    @functools.cached_property
    def _gain(self) -> float:
        """c^2."""
        return self.sigma_max**2 / float(self._integral(1.0))

    def _integral(self, t: Time) -> Coefficient:
        """sigma^2(t) / c^2, by 40 points of Gauss and Legendre between 0 and t: to rounding."""
        points, weights = _legendre(40)
        twice = 2.0 * math.log(self.sigma_max / self.sigma_min)
        if not isinstance(t, Tensor):
            G = self.pulled(t)
            terms = (
                w * math.exp(twice * t * p + 2.0 * (self.pulled(t * p) - G))
                for p, w in zip(points, weights, strict=True)
            )
            return self.sigma_min**2 * t * math.fsum(terms)
        at = t.double().unsqueeze(-1)
        u = at * torch.tensor(points, dtype=at.dtype, device=at.device)
        grown = torch.exp(twice * u + 2.0 * (self.pulled(u) - self.pulled(at)))
        return self.sigma_min**2 * t * (grown * torch.tensor(weights, dtype=at.dtype, device=at.device)).sum(-1)


@dataclass(frozen=True)
class ConstantPull(Pull):
    """OUVE: pull = gamma and c^2 = 2 (gamma + log r), so that sigma^2 = sigma_min^2 (r^2t - e^(-2 gamma t)).

    sigma(1) is a little below sigma_max. Source: Welker et al. 2022 (2211.06757), public code.
    """

    def pull(self, t: Time) -> Coefficient:
        return self.gamma + 0.0 * t

    def pulled(self, t: Time) -> Coefficient:
        return self.gamma * t

    def sigma(self, t: Time) -> Coefficient:
        # sigma_min^2 e^(-2 gamma t) (e^(2 (gamma + log r) t) - 1) keeps its digits near t = 0.
        rate = self.gamma + math.log(self.sigma_max / self.sigma_min)
        return self.sigma_min * lib(t).exp(-self.gamma * t) * lib(t).sqrt(lib(t).expm1(2.0 * rate * t))

    @functools.cached_property
    def _gain(self) -> float:
        return 2.0 * (self.gamma + math.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class LinearPull(Pull):
    """TSDVE ("t2ve" in the public code): pull = gamma t, alpha = e^(-gamma t^2 / 2), sigma(1) = sigma_max."""

    def pull(self, t: Time) -> Coefficient:
        return self.gamma * t

    def pulled(self, t: Time) -> Coefficient:
        return 0.5 * self.gamma * t * t


@dataclass(frozen=True)
class CosinePull(Pull):
    """CosVE: pull = gamma (1 - cos(pi t)), alpha = e^(-gamma (t - sin(pi t) / pi)), sigma(1) = sigma_max."""

    def pull(self, t: Time) -> Coefficient:
        return self.gamma * (1.0 - lib(t).cos(math.pi * t))

    def pulled(self, t: Time) -> Coefficient:
        return self.gamma * (t - lib(t).sin(math.pi * t) / math.pi)


@functools.cache
def _legendre(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Points and weights of Gauss and Legendre on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return tuple((0.5 * (points + 1.0)).tolist()), tuple((0.5 * weights).tolist())
