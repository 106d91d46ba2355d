"""Variance-preserving processes whose log SNR is learned: processes that are modules.

    lambda(t) = -gamma(t),   gamma(t) = gamma_0 + (gamma_1 - gamma_0) h(t),   sigma^2 = sigmoid(gamma).

A float time gives floats without gradient, a tensor time tensors with it. The ends are what a bound on the likelihood
of continuous time depends on; the shape h, rising from 0 to 1, only moves the variance of its estimate (Kingma et al.
2021, 2107.00630, section 5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.processes.base import Coefficient, Time
from sfumato.processes.gaussian import Gaussian
from sfumato.processes.schedules import VariancePreserving


class LearnedEnds(VariancePreserving, nn.Module):
    """gamma linear in t, its two ends parameters. Source: Kingma et al. 2021 (2107.00630) section 6, public code.

    Args:
        gamma_0, gamma_1: -log SNR at t = 0 and t = 1, to begin with.

    Raises:
        ValueError: unless gamma_0 < gamma_1.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 5.0) -> None:
        super().__init__()
        if gamma_0 >= gamma_1:
            raise ValueError(f"gamma = -log SNR rises with time: give gamma_0 < gamma_1, got {gamma_0} and {gamma_1}.")
        self.gamma_0 = nn.Parameter(torch.tensor(gamma_0, dtype=torch.float64))
        self.gamma_1 = nn.Parameter(torch.tensor(gamma_1, dtype=torch.float64))

    def alpha(self, t: Time) -> Coefficient:
        return self._read(t, lambda t: torch.exp(0.5 * F.logsigmoid(-self._gamma(t))))

    def sigma(self, t: Time) -> Coefficient:
        return self._read(t, lambda t: torch.exp(0.5 * F.logsigmoid(self._gamma(t))))

    def log_snr(self, t: Time) -> Coefficient:
        return self._read(t, lambda t: -self._gamma(t))

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        # alpha' = -alpha sigma^2 gamma' / 2 and sigma' = sigma alpha^2 gamma' / 2.
        half = self._read(t, lambda t: 0.5 * (self.gamma_1 - self.gamma_0) * self.warp_rate(t))
        alpha, sigma = self.alpha(t), self.sigma(t)
        return -alpha * sigma**2 * half, sigma * alpha**2 * half

    def warp(self, t: Tensor) -> Tensor:
        """h(t)."""
        return t

    def warp_rate(self, t: Tensor) -> Tensor:
        """dh / dt."""
        return torch.ones_like(t)

    def ends(self) -> LearnedEnds:
        """The process with the same two parameters and h(t) = t."""
        return self

    def _gamma(self, t: Tensor) -> Tensor:
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * self.warp(t)

    def _read(self, t: Time, f: object) -> Coefficient:
        assert callable(f)
        if isinstance(t, Tensor):
            return f(t.to(self.gamma_0))
        with torch.no_grad():
            return float(f(self.gamma_0.new_tensor(t)))


class LearnedSchedule(LearnedEnds):
    """Ends and shape: h a monotone network, a linear unit and `units` sigmoids of positive weights, scaled to [0, 1].

        h(t) = (g(t) - g(0)) / (g(1) - g(0)),  g(t) = u(t) + sum_k b_k sigmoid(a_k u(t) + c_k) / units,  u(t) = w t + c

    Source: Kingma et al. 2021 (2107.00630) appendix H.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 5.0, units: int = 1024) -> None:
        super().__init__(gamma_0, gamma_1)
        # Positive by softplus; the sigmoids begin spread over [0, 1], so that no draw is needed and h(t) is near t.
        self.first = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        steep = torch.full((units,), 4.0, dtype=torch.float64)
        middles = (torch.arange(units, dtype=torch.float64) + 0.5) / units
        self.steep = nn.Parameter(steep)
        self.offset = nn.Parameter(-steep * middles * math.log(2.0))
        self.weight = nn.Parameter(torch.zeros(units, dtype=torch.float64))

    def warp(self, t: Tensor) -> Tensor:
        start, stop = (self._g(t.new_tensor(v)) for v in (0.0, 1.0))
        return (self._g(t) - start) / (stop - start)

    def warp_rate(self, t: Tensor) -> Tensor:
        start, stop = (self._g(t.new_tensor(v)) for v in (0.0, 1.0))
        w, a, b = F.softplus(self.first[0]), F.softplus(self.steep), F.softplus(self.weight)
        s = torch.sigmoid(a * self._u(t).unsqueeze(-1) + self.offset)
        return w * (1.0 + (a * b * s * (1.0 - s)).mean(-1)) / (stop - start)

    def ends(self) -> LearnedEnds:
        plain = LearnedEnds()
        plain.gamma_0, plain.gamma_1 = self.gamma_0, self.gamma_1
        return plain

    time_of = Gaussian.time_of

    def _u(self, t: Tensor) -> Tensor:
        return F.softplus(self.first[0]) * t + self.first[1]

    def _g(self, t: Tensor) -> Tensor:
        u = self._u(t)
        hidden = torch.sigmoid(F.softplus(self.steep) * u.unsqueeze(-1) + self.offset)
        return u + (F.softplus(self.weight) * hidden).mean(-1)
